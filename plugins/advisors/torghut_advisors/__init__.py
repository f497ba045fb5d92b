"""The advisors that come with Torghut."""
