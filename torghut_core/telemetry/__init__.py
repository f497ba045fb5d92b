"""Logs, metrics and traces: how every other package says what it does.

Imports nothing of the kernel, and never decides anything.
"""
