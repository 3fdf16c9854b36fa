-- A table that is to be exchanged for a rebuilt one: until then nobody moves its frontier, or it would fall.
CREATE TABLE IF NOT EXISTS tributary_exchanges
(
    table_uuid UUID,
    until      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(until)
ORDER BY table_uuid
