"""The indicators that come with Torghut, one a file.

They follow TA-Lib's conventions where TA-Lib has them, after every bar: averages start with the mean of their first values.
"""

INDICATORS = {
    "ema": "ema:Ema",
}
"""Module in this package and class of each indicator, by its name."""
