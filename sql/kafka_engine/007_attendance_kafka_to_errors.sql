-- Of what comes from the topic, what is no record of the view, into `attendance_kafka_errors`.
CREATE MATERIALIZED VIEW IF NOT EXISTS attendance_kafka_to_errors TO attendance_kafka_errors AS
SELECT topic, partition, offset, key, value, epoch_text AS epoch, reason
FROM attendance_kafka_records
WHERE reason != ''
