"""The stages that come with Torghut: trades to microbars, bars to larger bars, bars to indicators.

One indicator per module, each a `step` on one row of state, a `dtype` for that row, and a small class to use it alone;
`indicators` is the stage that runs them all in one pass.
"""
