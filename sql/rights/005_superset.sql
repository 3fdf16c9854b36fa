-- Superset asks as one user, whoever looks: what its own people may see is Superset's to say. It shows teachers' names, so it is let to
-- what is personal; where it shall not, take attendance_analyst. Its client sets settings with each query: readonly = 2, not 1.
-- Not exercised: the engine of the tests parses these statements, and has no users. Applied by an administrator, one after the other.
CREATE USER IF NOT EXISTS superset IDENTIFIED WITH sha256_password BY 'change me'
    DEFAULT ROLE attendance_analyst_personal, attendance_all_faculties
    SETTINGS PROFILE 'attendance_reader', max_execution_time = 60, max_memory_usage = 4000000000;
GRANT attendance_analyst_personal, attendance_all_faculties TO superset;
