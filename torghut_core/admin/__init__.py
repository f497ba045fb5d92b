"""The admin API: what a running kernel shows and lets operators change, over HTTP.

Handlers ask the kernel through `kernel.Kernel` and never touch the engine. The web server is imported where it is started, not here: most commands never start one.
"""
