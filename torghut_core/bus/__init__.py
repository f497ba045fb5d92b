"""What travels between processes: the envelope around every event, on Kafka topics and on JSONL tapes.

Never opens a connection: Kafka is a plugin.
"""
