-- Records of the topic that are none of the view, with where they stand and why: nothing stops for them, so look here. `value` is there
-- where it could not be read as JSON; the server tells no bytes of others. One that is delivered again is one row. It may bear names.
CREATE TABLE IF NOT EXISTS attendance_kafka_errors
(
    topic     LowCardinality(String),
    partition UInt64,
    offset    UInt64,
    key       String,
    value     String,
    epoch     String,
    reason    String,
    at        DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (topic, partition, offset)
TTL toDateTime(at) + INTERVAL 90 DAY
