-- Up to which epoch, and to which moment, `attendance_enriched` and `latest_attendance_mv` show everything; empty before a loader has come so
-- far with both. A row may be newer than that, never older. It never falls.
CREATE OR REPLACE VIEW attendance_frontier AS
SELECT
    min(newest) AS epoch,
    fromUnixTimestamp64Milli(toInt64(epoch), 'Europe/Moscow') AS up_to,
    greatest(dateDiff('second', up_to, now()), 0) AS age_seconds
FROM
(
    SELECT frontiers.table_name AS name, max(frontiers.epoch) AS newest
    FROM tributary_frontiers AS frontiers
    INNER JOIN system.tables AS tables ON tables.uuid = frontiers.table_uuid AND tables.name = frontiers.table_name
    WHERE frontiers.table_name IN ('attendance_enriched_rows', 'attendance_latest_rows')
    GROUP BY frontiers.table_name
)
HAVING count() = 2
