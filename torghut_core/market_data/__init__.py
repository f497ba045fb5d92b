"""Market data on its way to the store and the bus: forwarder, deriver, universe, snapshots.

Never decides, and never opens a connection itself: sources and sinks are plugins.
"""
