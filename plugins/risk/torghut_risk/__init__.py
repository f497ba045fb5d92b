"""The risk rules that come with Torghut."""
