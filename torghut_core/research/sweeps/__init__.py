"""Many parameter sets of one catalog on one tape: what is searched, how sets are tried, what is kept of them.

`sweep.Sweep.evaluate` is the seam for whatever searches or tests out of sample.
"""
