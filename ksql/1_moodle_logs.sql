-- Moodle's log as Debezium writes it (unwrapped, Avro). Event time is timecreated, in milliseconds.
CREATE STREAM moodle_logs WITH (KAFKA_TOPIC='demo.demo.mdl_logstore_standard_log', VALUE_FORMAT='AVRO', TIMESTAMP='timecreated', KEY='id');
