"""Whether a result can be told from luck: of a short record, of the order of its trades, and of having tried many.

Only arithmetic on returns; what was tried is in the ledger (`research.experiments`).
"""
