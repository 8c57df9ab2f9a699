"""Bytes to values and back: the Moodle log's Avro, output rows, Kafka's record batches, dead letters."""
