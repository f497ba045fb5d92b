"""The bus: partitioned logs of envelopes, in this process (`memory`) or of Kafka (`kafka`), to write to and to read from.

`contract` is what both are; `sink` and `source` work with either. `merger` puts the topics of a partition in one order,
`records` reads what is in them. Kafka's library is imported when somebody connects.
"""

from torghut_sources.bus.sink import KafkaSink, MemorySink
from torghut_sources.bus.source import KafkaSource, MemorySource

__all__ = ["KafkaSink", "KafkaSource", "MemorySink", "MemorySource"]
