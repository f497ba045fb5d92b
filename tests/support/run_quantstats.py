"""Runs the real quantstats 0.0.86, in an environment that has it, and prints its figures; tests/support/quantstats.json has them.

    PYTHON tests/support/run_quantstats.py < CURVES

A line of JSON in for each curve, a line out: ``{"returns": [...], "benchmark": [...], "per_year": 252}``, daily returns as shares.
"""

import json
import sys

import pandas as pd
import quantstats.stats as qs

for line in sys.stdin:
    curve = json.loads(line)
    index = pd.date_range("2024-01-01", periods=len(curve["returns"]))
    returns, benchmark = (pd.Series(curve[name], index) for name in ("returns", "benchmark"))
    per_year = curve["per_year"]
    greeks = qs.greeks(returns, benchmark, periods=per_year)
    deepest = qs.drawdown_details(qs.to_drawdown_series(returns)).sort_values("max drawdown").iloc[0]
    found = {
        "total_return": qs.comp(returns),
        "cagr": qs.cagr(returns, periods=per_year),
        "volatility": qs.volatility(returns, periods=per_year),
        "sharpe": qs.sharpe(returns, periods=per_year),
        "sortino": qs.sortino(returns, periods=per_year),
        "calmar": qs.calmar(returns, periods=per_year),
        "omega": qs.omega(returns, periods=per_year),
        "best": qs.best(returns),
        "worst": qs.worst(returns),
        "value_at_risk": qs.value_at_risk(returns),
        "cvar": qs.conditional_value_at_risk(returns),
        "cvar_historical": qs.conditional_value_at_risk(returns, method="historical"),
        "max_drawdown": qs.max_drawdown(returns),
        "beta": greeks["beta"],
        "alpha": greeks["alpha"],
        "information_ratio": qs.information_ratio(returns, benchmark),
        "kurtosis": qs.kurtosis(returns),
        "skew": qs.skew(returns),
        "win_rate": qs.win_rate(returns),
        "deepest_days": int(deepest["days"]),
    }
    sys.stdout.write(json.dumps({name: float(value) for name, value in found.items()}) + "\n")
