-- The topic of the view `enriched`, as ClickHouse reads it, committed records alone: nobody selects from it, and it reads nothing before
-- 008 is there. What must be there is Nullable as well, so that 008 tells what is absent from 0. It never sees tombstones. Users and
-- secrets of Kafka stand in the server's own configuration (<kafka>), never here.
CREATE TABLE IF NOT EXISTS attendance_kafka
(
    ID                    Nullable(UUID),
    JOURNAL_ID            Nullable(UInt16),
    STUDENT_ID            Nullable(Int32),
    LESSON_DATE           Nullable(Date),
    ATTENDANCE_MARK       Nullable(UInt8),
    MARKED_BY             Nullable(UInt32),
    DATE_CREATE           Nullable(DateTime64(6, 'Europe/Moscow')),
    LESSON_ID             Nullable(UInt64),
    TYPE_MARK             Nullable(UInt8),
    NUMBER_CERT           Nullable(UInt8),
    MARKED_BY_ROLE        Nullable(UInt8),
    STUDENT_FIO           Nullable(String),
    STUDENT_LAST_NAME     Nullable(String),
    STUDENT_FIRST_NAME    Nullable(String),
    STUDENT_MIDDLE_NAME   Nullable(String),
    STUDENT_AGE           Nullable(UInt8),
    STUDENT_SEX           Nullable(String),
    ADMISSION_YEAR        Nullable(UInt16),
    QUALIFICATION         Nullable(String),
    COURSE                Nullable(UInt8),
    GROUP_SHORT_TITLE     Nullable(String),
    SPECIALIZATION_TITLE  Nullable(String),
    TEACHER_FIO           Nullable(String),
    TEACHER_LAST_NAME     Nullable(String),
    TEACHER_FIRST_NAME    Nullable(String),
    TEACHER_MIDDLE_NAME   Nullable(String),
    TEACHER_WORK_POSITION Nullable(String),
    FACULTY               Nullable(String),
    KAFEDRA               Nullable(String),
    TEACHER_AGE           Nullable(UInt8),
    TEACHER_SEX           Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '{brokers}',
    kafka_topic_list = '{topic}',
    kafka_group_name = '{group}',
    kafka_format = 'JSONEachRow',
    kafka_handle_error_mode = 'stream',
    kafka_max_block_size = 65536,
    kafka_poll_timeout_ms = 200,
    kafka_flush_interval_ms = 1000
