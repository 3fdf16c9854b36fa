-- Every click once, with what is known of its people now, by ClickHouse's own road: the columns of `attendance_enriched`, in its order. A
-- plain SELECT is right at any moment, merged or not, whatever was delivered twice or late: FINAL stands in here.
CREATE OR REPLACE VIEW attendance_enriched_kafka AS
SELECT
    ID, JOURNAL_ID, STUDENT_ID, LESSON_DATE, ATTENDANCE_MARK, MARKED_BY, DATE_CREATE, LESSON_ID, TYPE_MARK, NUMBER_CERT,
    MARKED_BY_ROLE, STUDENT_FIO, STUDENT_LAST_NAME, STUDENT_FIRST_NAME, STUDENT_MIDDLE_NAME, STUDENT_AGE, STUDENT_SEX,
    ADMISSION_YEAR, QUALIFICATION, COURSE, GROUP_SHORT_TITLE, SPECIALIZATION_TITLE, TEACHER_FIO, TEACHER_LAST_NAME,
    TEACHER_FIRST_NAME, TEACHER_MIDDLE_NAME, TEACHER_WORK_POSITION, FACULTY, KAFEDRA, TEACHER_AGE, TEACHER_SEX
FROM attendance_kafka_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
