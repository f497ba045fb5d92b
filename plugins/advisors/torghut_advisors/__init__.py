"""The advisors that come with Torghut: none yet, the AI advisor arrives with its own issue."""
