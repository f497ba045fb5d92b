"""The indicators that come with Torghut, one a file.

They follow TA-Lib's conventions where TA-Lib has them, after every bar: averages start with the mean of their first values.
"""

INDICATORS = {
    "beta": "beta:Beta",
    "bollinger": "bollinger:Bollinger",
    "correlation": "correlation:Correlation",
    "dema": "dema:Dema",
    "donchian": "donchian:Donchian",
    "ema": "ema:Ema",
    "highest": "highest:Highest",
    "hma": "hma:Hma",
    "kama": "kama:Kama",
    "linreg": "linreg:Linreg",
    "lowest": "lowest:Lowest",
    "macd": "macd:Macd",
    "microprice": "microprice:Microprice",
    "percent-rank": "percent_rank:PercentRank",
    "pivots": "pivots:Pivots",
    "ppo": "ppo:Ppo",
    "quote-imbalance": "quote_imbalance:QuoteImbalance",
    "rma": "rma:Rma",
    "sma": "sma:Sma",
    "stddev": "stddev:Stddev",
    "tema": "tema:Tema",
    "trix": "trix:Trix",
    "volatility-close": "volatility_close:VolatilityClose",
    "volatility-garman-klass": "volatility_garman_klass:VolatilityGarmanKlass",
    "volatility-parkinson": "volatility_parkinson:VolatilityParkinson",
    "volatility-yang-zhang": "volatility_yang_zhang:VolatilityYangZhang",
    "vwap-anchored": "vwap_anchored:VwapAnchored",
    "vwap-rolling": "vwap_rolling:VwapRolling",
    "wma": "wma:Wma",
    "zscore": "zscore:Zscore",
}
"""Module in this package and class of each indicator, by its name."""
