// The board of groups: marks by day, and the students with most absences.

import { startBoard } from './board.js';
import { integer, percent, plural } from './format.js';

const count = (key) => ({ value: (row) => row[key], text: (row) => integer(row[key]) });
const text = (key) => ({
  isText: true, value: (row) => row[key] ?? '', text: (row) => row[key] ?? '—',
});

await startBoard({
  path: '/v1/boards/groups',
  filters: [
    ['group', 'Группа', 'groups'],
    ['course', 'Курс', 'courses'],
    ['specialization', 'Направление', 'specializations'],
  ],
  rowsOf: (answer) => answer.students,
  keyOf: (row) => row.student,
  noteOf({ students, students_total: total }) {
    const all = plural(total, 'студент', 'студента', 'студентов');
    return students.length < total
      ? `${all}; показаны ${integer(students.length)} с наибольшим числом пропусков` : all;
  },
  columns: {
    name: { ...text('name'), text: (row) => row.name ?? `№ ${row.student}` },
    group: text('group'),
    marks: count('marks'),
    present: count('present'),
    absent: count('absent'),
    share: {
      value: (row) => row.present / row.marks,
      text: (row) => percent(row.present, row.marks),
    },
  },
});
