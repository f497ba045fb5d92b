"""The stages that come with Torghut: trades to microbars, bars to larger bars, bars to indicators.

The formulas of `ta_signals` have a module each: a `step` on one row of state, and the type of that row. `indicators` is the
stage that runs them all in one pass. The indicators that a strategy asks for are in `torghut_sources.indicators`.
"""
