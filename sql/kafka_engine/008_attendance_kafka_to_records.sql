-- The last one, since reading begins with it. A record bears its epoch in a header, as decimal digits, and its ID as the key; one that
-- does not, or lacks a column that must be there, is none of the view. Nothing here may fail: reading would stand still for ever.
CREATE MATERIALIZED VIEW IF NOT EXISTS attendance_kafka_to_records TO attendance_kafka_records AS
SELECT
    ID, JOURNAL_ID, STUDENT_ID, LESSON_DATE, ATTENDANCE_MARK, MARKED_BY, DATE_CREATE, LESSON_ID, TYPE_MARK, NUMBER_CERT,
    MARKED_BY_ROLE, STUDENT_FIO, STUDENT_LAST_NAME, STUDENT_FIRST_NAME, STUDENT_MIDDLE_NAME, STUDENT_AGE, STUDENT_SEX,
    ADMISSION_YEAR, QUALIFICATION, COURSE, GROUP_SHORT_TITLE, SPECIALIZATION_TITLE, TEACHER_FIO, TEACHER_LAST_NAME,
    TEACHER_FIRST_NAME, TEACHER_MIDDLE_NAME, TEACHER_WORK_POSITION, FACULTY, KAFEDRA, TEACHER_AGE, TEACHER_SEX,
    _headers.value[indexOf(_headers.name, 'epoch')] AS epoch_text,
    toUInt64OrNull(epoch_text) AS epoch,
    multiIf(
        _error != '', _error,
        epoch IS NULL, 'no header epoch with a number',
        ifNull(ID != toUUIDOrNull(_key), 1), 'ID is not the key',
        JOURNAL_ID IS NULL OR STUDENT_ID IS NULL OR LESSON_DATE IS NULL OR ATTENDANCE_MARK IS NULL OR MARKED_BY IS NULL
            OR DATE_CREATE IS NULL OR LESSON_ID IS NULL, 'a column that must be there is absent',
        '') AS reason,
    _topic AS topic, _partition AS partition, _offset AS offset, _key AS key, _raw_message AS value
FROM attendance_kafka
