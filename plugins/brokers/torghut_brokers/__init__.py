"""The brokers that come with Torghut."""
