"""What is taken for zero where a ratio is made of differences or of averages that fade."""

ROUNDING = 1e-14
"""Part of two values below which their difference is taken for rounding, as in TA-Lib."""

NOTHING = 1e-300
"""What has faded to less is taken for 0: a ratio of smaller ones is made of their rounding."""
