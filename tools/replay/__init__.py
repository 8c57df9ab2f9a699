"""Replay of a log into the source topic, as Debezium would write it: OULAD's students, or a CSV file."""
