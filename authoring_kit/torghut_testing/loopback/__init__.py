"""Servers on loopback for tests: one way to listen, to speak HTTP, to note requests and to fail on demand.

The stand-ins of Alpaca and ClickHouse are built on it. Here lives what they share; what a venue or a store answers, and
which routes it has, never does.
"""
