"""Recorded tapes, and the source `replay` that plays them."""
