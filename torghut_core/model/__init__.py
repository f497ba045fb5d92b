"""The words of torghut: the market's (`market`), the trader's (`trading`), and the order lifecycle (`order_state`).

Values and pure functions. Never a file, a clock or a plugin.
"""
