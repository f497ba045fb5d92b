"""The indicators that come with Torghut, one a file.

They follow TA-Lib's conventions where TA-Lib has them, after every bar: averages start with the mean of their first values.
"""

INDICATORS = {
    "bollinger": "bollinger:Bollinger",
    "dema": "dema:Dema",
    "donchian": "donchian:Donchian",
    "ema": "ema:Ema",
    "highest": "highest:Highest",
    "hma": "hma:Hma",
    "kama": "kama:Kama",
    "lowest": "lowest:Lowest",
    "macd": "macd:Macd",
    "ppo": "ppo:Ppo",
    "rma": "rma:Rma",
    "sma": "sma:Sma",
    "stddev": "stddev:Stddev",
    "tema": "tema:Tema",
    "trix": "trix:Trix",
    "wma": "wma:Wma",
    "zscore": "zscore:Zscore",
}
"""Module in this package and class of each indicator, by its name."""
