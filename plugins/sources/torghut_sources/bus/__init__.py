"""The bus: partitioned logs of envelopes, in this process (`memory`) or in Kafka (`kafka`), to write to and to read from.

`contract` is what both implement; `sink` and `source` work with either. `merger` puts the topics of a partition in order of
time, `records` decodes them. Kafka's library is imported by `connect`.
"""

from torghut_sources.bus.sink import KafkaSink, MemorySink
from torghut_sources.bus.source import KafkaSource, MemorySource

__all__ = ["KafkaSink", "KafkaSource", "MemorySink", "MemorySource"]
