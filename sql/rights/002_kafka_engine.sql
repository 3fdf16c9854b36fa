-- What `init --kafka-engine` needs beside tributary_init: a table that reads Kafka. ClickHouse 25.8 says it as GRANT KAFKA ON *.*, 26.1 as
-- below (the version between them was not looked for). Views that insert go on as who made them: that user must stay.
-- Not exercised: the engine of the tests parses these statements, and has no users. Applied by an administrator, one after the other.
GRANT READ, WRITE ON KAFKA TO tributary_init;
