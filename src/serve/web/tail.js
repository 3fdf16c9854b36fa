// The tail: records as they are enriched, the newest first, and corrections of those before.

import {
  api, follow, query, ready, remember, singleFlight, toast,
} from './common.js';
import { byId, flash, h, setText } from './dom.js';
import {
  day, fullMoment, integer, MARKS, nameOf, plural, ROLES, shortName,
} from './format.js';
import { startHeader } from './header.js';

const LIMIT = 500;
const SHOWN = 200;
// So that a filter finds something too, more is kept than is shown.
const KEPT = 2000;
const NAMES = {
  ID: 'Номер записи',
  JOURNAL_ID: 'Журнал',
  STUDENT_ID: 'Номер студента',
  LESSON_DATE: 'Дата занятия',
  ATTENDANCE_MARK: 'Отметка',
  MARKED_BY: 'Номер отметившего',
  DATE_CREATE: 'Когда отмечено',
  LESSON_ID: 'Занятие',
  TYPE_MARK: 'Вид отметки',
  NUMBER_CERT: 'Номер справки',
  MARKED_BY_ROLE: 'Роль отметившего',
  STUDENT_FIO: 'ФИО студента',
  STUDENT_LAST_NAME: 'Фамилия студента',
  STUDENT_FIRST_NAME: 'Имя студента',
  STUDENT_MIDDLE_NAME: 'Отчество студента',
  STUDENT_AGE: 'Возраст студента',
  STUDENT_SEX: 'Пол студента',
  ADMISSION_YEAR: 'Год поступления',
  QUALIFICATION: 'Квалификация',
  COURSE: 'Курс',
  GROUP_SHORT_TITLE: 'Группа',
  SPECIALIZATION_TITLE: 'Направление',
  TEACHER_FIO: 'ФИО преподавателя',
  TEACHER_LAST_NAME: 'Фамилия преподавателя',
  TEACHER_FIRST_NAME: 'Имя преподавателя',
  TEACHER_MIDDLE_NAME: 'Отчество преподавателя',
  TEACHER_WORK_POSITION: 'Должность',
  FACULTY: 'Факультет',
  KAFEDRA: 'Кафедра',
  TEACHER_AGE: 'Возраст преподавателя',
  TEACHER_SEX: 'Пол преподавателя',
};

const state = {
  start: null, last: null, records: [], isPaused: false, missed: 0, student: null,
};

const load = singleFlight(async () => {
  if (state.isPaused) {
    return;
  }
  const isFirst = state.last === null;
  let page;
  do {
    const after = state.last;
    page = (await api(`/v1/tail${query({ after, limit: LIMIT })}`)).records;
    page.sort((a, b) => a.sequence - b.sequence);
    take(page, !isFirst);
  } while (page.length === LIMIT && !state.isPaused);
  showNote();
});

/** A server that was started anew numbers its records anew. */
function onHello({ start }) {
  if (state.start !== null && state.start !== start) {
    Object.assign(state, { last: null, records: [] });
    showAll();
  }
  state.start = start;
}

/** Puts newer records before those that are there. */
function take(page, isNews) {
  if (page.length === 0) {
    return;
  }
  if (state.last !== null && page[0].sequence > state.last + 1) {
    toast('Часть записей пропущена: их было больше, чем хранит сервер.');
  }
  state.last = page.at(-1).sequence;
  state.records = [...page.toReversed(), ...state.records].slice(0, KEPT);
  const list = byId('records');
  for (const record of page.filter(isWanted)) {
    const element = elementOf(record);
    list.prepend(element);
    if (isNews) {
      flash(element);
    }
  }
  while (list.children.length > SHOWN) {
    list.lastElementChild.remove();
  }
}

const isWanted = ({ after }) => state.student === null || after.STUDENT_ID === state.student;

function showAll() {
  byId('records').replaceChildren(...state.records.filter(isWanted).slice(0, SHOWN).map(elementOf));
  showNote();
}

function showNote() {
  const count = plural(byId('records').children.length, 'запись', 'записи', 'записей');
  const of = state.student === null ? '' : ` о студенте № ${state.student}`;
  const rest = state.student === null ? ''
    : ` (поиск среди последних ${integer(state.records.length)})`;
  const paused = state.isPaused ? `. Пауза; за это время изменений: ${integer(state.missed)}` : '';
  setText(byId('tail-note'), `Показано: ${count}${of}${rest}, новые сверху${paused}.`);
}

// -- One record -----------------------------------------------------------------------------------

function elementOf({ sequence, epoch, kind, after, before }) {
  const isNew = kind === 'new';
  const mark = MARKS[after.ATTENDANCE_MARK];
  const changes = isNew ? [] : changesOf(before ?? {}, after);
  return h('li', {
    class: isNew ? 'record' : 'record correction',
    'data-sequence': sequence,
    'data-kind': kind,
    'data-student': after.STUDENT_ID,
  },
  h('div', { class: 'record-head' },
    h('span', { class: 'tag' }, isNew ? 'Новая' : 'Исправление'),
    h('b', {}, after.STUDENT_FIO ?? `Студент № ${after.STUDENT_ID}`),
    h('span', {}, after.GROUP_SHORT_TITLE ?? 'группа неизвестна'),
    h('span', { class: 'muted' }, `№ ${after.STUDENT_ID}`),
    h('span', { 'data-mark': after.ATTENDANCE_MARK }, mark?.name ?? after.ATTENDANCE_MARK),
    h('span', { class: 'sequence' }, `№ ${integer(sequence)}, эпоха ${integer(epoch)}`)),
  changes.length > 0 ? h('ul', { class: 'changes' }, changes) : null,
  columnsOf(after));
}

function authorOf(record) {
  const role = ROLES[record.MARKED_BY_ROLE] ?? 'Роль не указана';
  const isSelf = record.MARKED_BY_ROLE === 0 && record.MARKED_BY === record.STUDENT_ID;
  const name = isSelf ? record.STUDENT_FIO : record.TEACHER_FIO;
  const place = record.KAFEDRA ? `, ${record.KAFEDRA}` : '';
  const author = name ? shortName(name) : nameOf({ number: record.MARKED_BY });
  return `${role}: ${author}${place}, ${fullMoment(record.DATE_CREATE)}`;
}

function changesOf(before, after) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.filter((name) => before[name] !== after[name]).map((name) => h('li', {
    'data-column': name,
  }, h('span', { class: 'column' }, `${NAMES[name] ?? name}: `),
  h('del', {}, before[name] ?? 'не было'), ' → ', h('ins', {}, after[name] ?? 'пусто')));
}

/** Who marked what; all columns are made when somebody opens them, for there are many. */
function columnsOf(record) {
  const lesson = `Журнал № ${record.JOURNAL_ID}, занятие ${day(record.LESSON_DATE)}`;
  const box = h('details', {}, h('summary', { title: 'Все поля записи' },
    `${lesson}. ${authorOf(record)}`));
  box.addEventListener('toggle', () => {
    if (box.children.length === 1) {
      box.append(h('dl', { class: 'all' }, Object.entries(record).map(([name, value]) => (
        h('div', {}, h('dt', {}, NAMES[name] ?? name), h('dd', {}, value))))));
    }
  });
  return box;
}

// -- Start ----------------------------------------------------------------------------------------

function pause() {
  state.isPaused = !state.isPaused;
  state.missed = 0;
  byId('pause').setAttribute('aria-pressed', state.isPaused);
  setText(byId('pause'), state.isPaused ? 'Продолжить' : 'Пауза');
  showNote();
  load();
}

function filter() {
  state.student = Number(byId('student').value.trim()) || null;
  remember({ student: state.student });
  showAll();
}

function onEpoch({ cells, corrected }) {
  if (state.isPaused) {
    state.missed += cells.length + corrected;
    showNote();
  }
  load();
}

startHeader();
byId('student').value = new URLSearchParams(location.search).get('student') ?? '';
state.student = Number(byId('student').value) || null;
byId('student').addEventListener('input', filter);
byId('pause').addEventListener('click', pause);
byId('filters').addEventListener('submit', (event) => event.preventDefault());
await ready();
follow({ load, hello: onHello, epoch: onEpoch });
