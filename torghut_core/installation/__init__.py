"""What this process was given: its settings, its state directory with the lock, and the stores and plugins they name.

Opens what other packages use. Never trades, never watches anything, and never closes what it has handed out.
"""
