"""Orders at a real venue: the executor that sends each one once, the reconciler, the operator's controls, the lease.

Never decides what to trade, and never knows a particular venue: that is a broker plugin's part.
"""
