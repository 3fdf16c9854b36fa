-- Every click once, with what is known of its people now. A plain SELECT is right at any moment, merged or not: FINAL stands in here,
-- and a partition needs no look at another one, since a row's partition never changes.
CREATE OR REPLACE VIEW attendance_enriched AS
SELECT
    ID, JOURNAL_ID, STUDENT_ID, LESSON_DATE, ATTENDANCE_MARK, MARKED_BY, DATE_CREATE, LESSON_ID, TYPE_MARK, NUMBER_CERT, MARKED_BY_ROLE,
    STUDENT_FIO, STUDENT_LAST_NAME, STUDENT_FIRST_NAME, STUDENT_MIDDLE_NAME, STUDENT_AGE, STUDENT_SEX, ADMISSION_YEAR, QUALIFICATION, COURSE,
    GROUP_SHORT_TITLE, SPECIALIZATION_TITLE, TEACHER_FIO, TEACHER_LAST_NAME, TEACHER_FIRST_NAME, TEACHER_MIDDLE_NAME, TEACHER_WORK_POSITION,
    FACULTY, KAFEDRA, TEACHER_AGE, TEACHER_SEX
FROM attendance_enriched_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
