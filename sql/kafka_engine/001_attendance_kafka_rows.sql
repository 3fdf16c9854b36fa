-- What comes by ClickHouse's own road, its Kafka engine: every click once, at each epoch in which it changed. The greatest epoch
-- counts, so that what is delivered again changes nothing. Read it through `attendance_enriched_kafka`.
CREATE TABLE IF NOT EXISTS attendance_kafka_rows
(
    ID                    UUID,
    JOURNAL_ID            UInt16,
    STUDENT_ID            Int32,
    LESSON_DATE           Date,
    ATTENDANCE_MARK       UInt8,
    MARKED_BY             UInt32,
    DATE_CREATE           DateTime64(6, 'Europe/Moscow'),
    LESSON_ID             UInt64,
    TYPE_MARK             Nullable(UInt8),
    NUMBER_CERT           Nullable(UInt8),
    MARKED_BY_ROLE        Nullable(UInt8),
    STUDENT_FIO           Nullable(String),
    STUDENT_LAST_NAME     Nullable(String),
    STUDENT_FIRST_NAME    Nullable(String),
    STUDENT_MIDDLE_NAME   Nullable(String),
    STUDENT_AGE           Nullable(UInt8),
    STUDENT_SEX           LowCardinality(Nullable(String)),
    ADMISSION_YEAR        Nullable(UInt16),
    QUALIFICATION         LowCardinality(Nullable(String)),
    COURSE                Nullable(UInt8),
    GROUP_SHORT_TITLE     LowCardinality(Nullable(String)),
    SPECIALIZATION_TITLE  LowCardinality(Nullable(String)),
    TEACHER_FIO           LowCardinality(Nullable(String)),
    TEACHER_LAST_NAME     LowCardinality(Nullable(String)),
    TEACHER_FIRST_NAME    LowCardinality(Nullable(String)),
    TEACHER_MIDDLE_NAME   LowCardinality(Nullable(String)),
    TEACHER_WORK_POSITION LowCardinality(Nullable(String)),
    FACULTY               LowCardinality(Nullable(String)),
    KAFEDRA               LowCardinality(Nullable(String)),
    TEACHER_AGE           Nullable(UInt8),
    TEACHER_SEX           LowCardinality(Nullable(String)),
    epoch                 UInt64
)
ENGINE = ReplacingMergeTree(epoch)
PARTITION BY toYYYYMM(LESSON_DATE)
ORDER BY (LESSON_DATE, STUDENT_ID, LESSON_ID, ID)
SETTINGS min_age_to_force_merge_seconds = 60, min_age_to_force_merge_on_partition_only = 1
