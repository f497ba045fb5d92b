"""Parameters chosen on some days and tested on others: the folds, the walk through them, and its files.

Nothing of a test reaches its choice.
"""
