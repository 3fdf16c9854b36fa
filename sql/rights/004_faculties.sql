-- Who sees which faculty. Policies stand on the views, never on the tables of rows: there they are computed before FINAL (25.8 always,
-- 26.1 by default), and what a correction took out of a faculty is seen in it again. FACULTY is the teacher's: a mark without a teacher
-- has none, and is seen only by who sees all.
-- Not exercised: the engine of the tests parses these statements, and has no users. Applied by an administrator, one after the other.
CREATE ROLE IF NOT EXISTS attendance_all_faculties;
CREATE ROW POLICY IF NOT EXISTS all_faculties ON attendance.attendance_enriched USING 1 TO attendance_all_faculties;
CREATE ROW POLICY IF NOT EXISTS all_faculties ON attendance.latest_attendance_mv USING 1 TO attendance_all_faculties;

-- Who has no policy sees nothing, whatever users_without_row_policies_can_read_rows says.
CREATE ROW POLICY IF NOT EXISTS no_faculty ON attendance.attendance_enriched USING 0 TO ALL;
CREATE ROW POLICY IF NOT EXISTS no_faculty ON attendance.latest_attendance_mv USING 0 TO ALL;

-- One faculty, one role: these three for each. Conditions of several roles are joined by OR.
CREATE ROLE IF NOT EXISTS attendance_faculty_1;
CREATE ROW POLICY IF NOT EXISTS faculty_1 ON attendance.attendance_enriched USING FACULTY = 'as it stands in FACULTY'
    TO attendance_faculty_1;
CREATE ROW POLICY IF NOT EXISTS faculty_1 ON attendance.latest_attendance_mv USING faculty = 'as it stands in FACULTY'
    TO attendance_faculty_1;

CREATE USER IF NOT EXISTS dean_1 IDENTIFIED WITH sha256_password BY 'change me'
    DEFAULT ROLE attendance_analyst_personal, attendance_faculty_1;
GRANT attendance_analyst_personal, attendance_faculty_1 TO dean_1;
