-- Up to which epoch all rows of a table are there. The greatest epoch counts; read it through `attendance_frontier`.
CREATE TABLE IF NOT EXISTS tributary_frontiers
(
    table_name LowCardinality(String),
    table_uuid UUID,
    epoch      UInt64,
    at         DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(epoch)
ORDER BY (table_name, table_uuid)
