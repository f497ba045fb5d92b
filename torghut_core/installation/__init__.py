"""What this process was given: its settings, its state directory and lock, and the stores that they name.

Never trades and never watches anything: it opens what others use, and closes nothing that they hold.
"""
