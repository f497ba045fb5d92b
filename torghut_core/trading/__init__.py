"""The trading loop: a batch in; decisions, risk verdicts, orders and positions out, through the ports.

Never touches a file, a socket, a database or a clock: its caller hands in what it needs.
"""
