"""Kafka as a bus, on librdkafka: `bus` makes writers and readers, `link` says whether they reach the brokers, and why not.

Each client has one thread of its own, in which all its callbacks run: a writer's does nothing else, a reader's also
fetches.
"""
