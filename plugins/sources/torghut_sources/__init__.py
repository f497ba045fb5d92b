"""The signal sources and stages that come with Torghut."""
