"""The HTML page of a backtest: one file that needs nothing but a browser.

`documents` makes such files of templates; what is drawn comes from `performance`. Nothing is computed here that is not shown.
"""
