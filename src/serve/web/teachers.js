// The board of teachers: marks by day, and the shares of presence with each teacher.

import { startBoard } from './board.js';
import { integer, percent, plural } from './format.js';

const share = (key) => ({
  value: (row) => row[key] / row.marks,
  text: (row) => percent(row[key], row.marks),
});

await startBoard({
  path: '/v1/boards/teachers',
  filters: [
    ['faculty', 'Факультет', 'faculties'],
    ['kafedra', 'Кафедра', 'kafedras'],
    ['teacher', 'Преподаватель', 'teachers'],
  ],
  rowsOf: (answer) => answer.teachers,
  keyOf: (row) => JSON.stringify([row.name, row.kafedra]),
  noteOf: ({ teachers_total: total }) => (
    plural(total, 'преподаватель', 'преподавателя', 'преподавателей')),
  columns: {
    name: {
      isText: true,
      value: (row) => row.name ?? '',
      text: (row) => row.name ?? 'Отметки студентов и старост',
    },
    kafedra: {
      isText: true, value: (row) => row.kafedra ?? '', text: (row) => row.kafedra ?? '—',
    },
    marks: { value: (row) => row.marks, text: (row) => integer(row.marks) },
    share: share('present'),
    absence: share('absent'),
  },
});
