"""A historical day once more, through bus, TA and trading, in isolation from all that is real.

`manifest` says which day and what it may use, `plan` what follows from that, `isolation` what has to hold before and after,
`run` does it, `evidence` writes down the result, `report` judges it, `cluster` makes the objects that do it in a cluster.
"""
