"""Real input: OULAD's students, or any table of log rows, written to the source topic as Debezium would."""
