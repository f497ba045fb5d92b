"""A replay and what can be learned from it: the page, and the check that a decision can be found again.

Never computes a figure that the live loop would not have made.
"""
