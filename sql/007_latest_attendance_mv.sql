-- The mark that counts, of each student at each lesson, with what is known of people now; names as the reports have always had them.
-- A plain SELECT is right at any moment: see `attendance_enriched`.
CREATE OR REPLACE VIEW latest_attendance_mv AS
SELECT
    JOURNAL_ID, STUDENT_ID, LESSON_ID, LESSON_DATE,
    ATTENDANCE_MARK AS attendance_mark, MARKED_BY AS marked_by, DATE_CREATE AS date_create, TYPE_MARK AS type_mark,
    NUMBER_CERT AS number_cert, MARKED_BY_ROLE AS marked_by_role, STUDENT_FIO AS student_fio, STUDENT_LAST_NAME AS student_last_name,
    STUDENT_FIRST_NAME AS student_first_name, STUDENT_MIDDLE_NAME AS student_middle_name, STUDENT_AGE AS student_age, STUDENT_SEX AS student_sex,
    ADMISSION_YEAR AS admission_year, QUALIFICATION AS qualification, COURSE AS course, GROUP_SHORT_TITLE AS group_short_title,
    SPECIALIZATION_TITLE AS specialization_title, TEACHER_FIO AS teacher_fio, TEACHER_LAST_NAME AS teacher_last_name,
    TEACHER_FIRST_NAME AS teacher_first_name, TEACHER_MIDDLE_NAME AS teacher_middle_name, TEACHER_WORK_POSITION AS teacher_work_position,
    FACULTY AS faculty, KAFEDRA AS kafedra, TEACHER_AGE AS teacher_age, TEACHER_SEX AS teacher_sex
FROM attendance_latest_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
