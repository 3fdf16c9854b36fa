-- Who reads. Nobody is let to the tables of rows: the views read them as `tributary_views`, who never logs in, and rights stand on the
-- views. Applied again after each `init` that made a view anew: CREATE OR REPLACE takes the definer away, and analysts are refused.
-- Not exercised: the engine of the tests parses these statements, and has no users. Applied by an administrator, one after the other.
CREATE USER IF NOT EXISTS tributary_views IDENTIFIED WITH no_password HOST NONE;
GRANT SELECT ON attendance.attendance_enriched_rows TO tributary_views;
GRANT SELECT ON attendance.attendance_latest_rows TO tributary_views;
GRANT SELECT ON attendance.tributary_frontiers TO tributary_views;
GRANT SHOW TABLES ON attendance.* TO tributary_views;
ALTER TABLE attendance.attendance_enriched MODIFY SQL SECURITY DEFINER DEFINER = tributary_views;
ALTER TABLE attendance.latest_attendance_mv MODIFY SQL SECURITY DEFINER DEFINER = tributary_views;
ALTER TABLE attendance.attendance_frontier MODIFY SQL SECURITY DEFINER DEFINER = tributary_views;

-- Who may set these reads through a view, up to ClickHouse 26.1, what is withheld: a filter of one's own is computed inside it. So every
-- reader has this profile, and no other role gives them back.
CREATE SETTINGS PROFILE IF NOT EXISTS attendance_reader
    SETTINGS readonly = 2, additional_table_filters CONST, additional_result_filter CONST;

-- Without names, ages and sex. STUDENT_ID and MARKED_BY stay: numbers that only other systems tell the people of. `SELECT *` is refused,
-- and so is a condition on what is withheld.
CREATE ROLE IF NOT EXISTS attendance_analyst SETTINGS PROFILE 'attendance_reader';
GRANT SELECT(
    ID, JOURNAL_ID, STUDENT_ID, LESSON_DATE, ATTENDANCE_MARK, MARKED_BY, DATE_CREATE, LESSON_ID, TYPE_MARK, NUMBER_CERT,
    MARKED_BY_ROLE, ADMISSION_YEAR, QUALIFICATION, COURSE, GROUP_SHORT_TITLE, SPECIALIZATION_TITLE, TEACHER_WORK_POSITION,
    FACULTY, KAFEDRA
) ON attendance.attendance_enriched TO attendance_analyst;
GRANT SELECT(
    JOURNAL_ID, STUDENT_ID, LESSON_DATE, attendance_mark, marked_by, date_create, LESSON_ID, type_mark, number_cert,
    marked_by_role, admission_year, qualification, course, group_short_title, specialization_title, teacher_work_position,
    faculty, kafedra
) ON attendance.latest_attendance_mv TO attendance_analyst;
GRANT SELECT ON attendance.attendance_frontier TO attendance_analyst;

-- With them.
CREATE ROLE IF NOT EXISTS attendance_analyst_personal SETTINGS PROFILE 'attendance_reader';
GRANT SELECT ON attendance.attendance_enriched TO attendance_analyst_personal;
GRANT SELECT ON attendance.latest_attendance_mv TO attendance_analyst_personal;
GRANT SELECT ON attendance.attendance_frontier TO attendance_analyst_personal;
