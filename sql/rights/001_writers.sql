-- Who writes: a role for each thing that `tributary` does, with what it needs and no more. `attendance` is the database. Grants whose
-- names end with * need a server that knows such names (seen on 25.8, 26.1, 26.9).
-- Not exercised: the engine of the tests parses these statements, and has no users. Applied by an administrator, one after the other.
CREATE ROLE IF NOT EXISTS tributary_load;
GRANT INSERT, SELECT(epoch) ON attendance.attendance_enriched_rows TO tributary_load;
GRANT INSERT, SELECT(epoch) ON attendance.attendance_latest_rows TO tributary_load;
-- Those of dataflows that were made anew (`backfill`).
GRANT INSERT, SELECT ON attendance.attendance_enriched_rows__* TO tributary_load;
GRANT INSERT, SELECT ON attendance.attendance_latest_rows__* TO tributary_load;
GRANT SELECT, INSERT ON attendance.tributary_loaded TO tributary_load;
GRANT SELECT, INSERT ON attendance.tributary_frontiers TO tributary_load;
GRANT SELECT ON attendance.tributary_exchanges TO tributary_load;

-- `load --rebuild`, beside tributary_load: a fresh table, and the exchange of both, for which the server asks all four rights on both.
CREATE ROLE IF NOT EXISTS tributary_rebuild;
GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE ON attendance.attendance_enriched_rows* TO tributary_rebuild;
GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE ON attendance.attendance_latest_rows* TO tributary_rebuild;
GRANT INSERT ON attendance.tributary_exchanges TO tributary_rebuild;

-- `promote`, beside tributary_rebuild and tributary_init: the frontier of what is shown rests meanwhile.
GRANT ALTER DELETE ON attendance.tributary_exchanges TO tributary_rebuild;

-- `init`. CREATE OR REPLACE VIEW asks DROP VIEW, and up to 26.1 DROP TABLE and INSERT as well; who makes a view must be able to read what
-- it shows. On 26.9 INSERT on tributary_migrations is enough, and DROP TABLE is not needed.
CREATE ROLE IF NOT EXISTS tributary_init;
GRANT CREATE TABLE, CREATE VIEW, DROP VIEW, DROP TABLE, SELECT, INSERT ON attendance.* TO tributary_init;

-- `check`: an empty database beside, which goes again.
CREATE ROLE IF NOT EXISTS tributary_check;
GRANT SHOW TABLES, SHOW COLUMNS ON attendance.* TO tributary_check;
GRANT CREATE DATABASE, DROP DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, SELECT, INSERT ON attendance_check_*.*
    TO tributary_check;

-- The service loads; an operator does the rest.
CREATE USER IF NOT EXISTS tributary IDENTIFIED WITH sha256_password BY 'change me' DEFAULT ROLE tributary_load;
GRANT tributary_load TO tributary;
CREATE USER IF NOT EXISTS tributary_operator IDENTIFIED WITH sha256_password BY 'change me'
    DEFAULT ROLE tributary_load, tributary_rebuild, tributary_init, tributary_check;
GRANT tributary_load, tributary_rebuild, tributary_init, tributary_check TO tributary_operator;
