"""Kafka as a bus, on librdkafka: `bus` makes writers and readers, `link` is what both know of the brokers.

Each client has one thread of its own, in which all its callbacks run: a writer's does nothing else, a reader's also
fetches.
"""
