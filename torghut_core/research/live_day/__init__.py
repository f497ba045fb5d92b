"""A day of `torghut run` beside a backtest of that day: what was decided, and what each order has cost."""
