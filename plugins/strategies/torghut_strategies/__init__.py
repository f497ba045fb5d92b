"""The trading strategies that come with Torghut."""
