-- Up to where the loader has written each partition of an output topic into a table, by the table's UUID: a table that was made anew or
-- exchanged begins where itself came. The greatest offset counts.
CREATE TABLE IF NOT EXISTS tributary_loaded
(
    table_uuid UUID,
    topic      LowCardinality(String),
    topic_id   LowCardinality(String),
    partition  UInt32,
    next       UInt64,
    at         DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(next)
ORDER BY (table_uuid, topic, topic_id, partition)
