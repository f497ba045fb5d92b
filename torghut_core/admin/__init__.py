"""The admin API: what a running kernel shows and lets operators change, over HTTP.

The web server is imported where it is started, not here: most commands never start one.
"""
