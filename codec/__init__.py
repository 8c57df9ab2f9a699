"""Bytes of the Moodle log: Avro schemas, the registry that keeps them, and chunks decoded by them."""
