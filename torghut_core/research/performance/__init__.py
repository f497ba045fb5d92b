"""A run in figures: its curve, its round trips, and every figure of both; how they are written for people.

Everything is plain numpy on arrays. Nothing here trades.
"""
