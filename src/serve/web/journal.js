// The page of the journal: a group and one of its journals are chosen, marks are seen and set.

import {
  actingPerson, api, follow, query, ready, remember, session, singleFlight, toast,
} from './common.js';
import {
  cellAt, forget, isAnyOpen, onChange, onRefusal, retry, setMark, shownMark, takeChange,
  takeStanding, unconfirmed,
} from './cells.js';
import { byId, h, setText } from './dom.js';
import { marks, MARKS, plural, shortName, SLOTS, slotsAt } from './format.js';
import { buildGrid, hideTip, isShown, paintCell, scrollToToday, showCounts } from './grid.js';
import { now, openChooser, relevant, startHeader } from './header.js';
import { openMenu } from './menu.js';

const ALLOWED = { student: [1, 0], teacher: [1, 0, 4, 5], deanery: [1, 0, 2, 3, 4, 5] };
const KEYS = { teacher: '1, 0, 4, 5', deanery: '0–5' };
const state = { group: null, number: null, groups: [], journals: [], journal: null };
/** Changes that were told while a journal was being read. */
let heard = null;
let isTallyAsked = false;
/** The stream of changes, and the journal of which it tells. */
let stream = null;
let heardOf = null;

const load = singleFlight(async () => {
  heard = [];
  try {
    await choose();
    if (stream && heardOf !== state.number) {
      stream.reopen();
    }
    if (state.number !== null) {
      const path = `/v1/journals/${state.number}${query({ group: state.group })}`;
      show(await api(path));
    }
  } finally {
    const missed = heard;
    heard = null;
    missed.forEach(takeCell);
    tally();
  }
});

/** Finds the group and journal that the address asks for, or good ones instead. */
async function choose() {
  if (state.groups.length === 0) {
    state.groups = (await api('/v1/groups')).groups;
    byId('groups').replaceChildren(...state.groups.map((value) => h('option', { value })));
    readAddress();
  }
  if (!state.groups.includes(state.group)) {
    const { suggested } = session;
    [state.group, state.number] = suggested
      ? [suggested.group, suggested.journal] : [state.groups[0] ?? null, null];
  }
  byId('group').value = state.group ?? '';
  if (state.group === null) {
    showNothing('В журнале пока нет ни одной группы.');
    return;
  }
  state.journals = (await api(`/v1/journals${query({ group: state.group })}`)).journals;
  const isThere = state.journals.some((one) => one.journal === state.number);
  const first = state.journals.find((one) => one.today > 0) ?? state.journals[0];
  state.number = isThere ? state.number : first?.journal ?? null;
  showJournals();
  remember({ group: state.group, journal: state.number });
}

function readAddress() {
  const asked = new URLSearchParams(location.search);
  state.group = asked.get('group');
  state.number = Number(asked.get('journal')) || null;
}

function showJournals() {
  const options = state.journals.map((one) => h('option', { value: one.journal }, nameOf(one)));
  byId('journal').replaceChildren(...options);
  byId('journal').value = state.number ?? '';
  if (state.number === null) {
    showNothing(`У группы ${state.group} нет журналов.`);
  }
}

function nameOf({ journal, teachers, lessons, today }) {
  const count = plural(lessons, 'занятие', 'занятия', 'занятий');
  const names = some(teachers, (one) => (one.name ? shortName(one.name) : `№ ${one.number}`), 1);
  return `№ ${journal} · ${names || 'без преподавателя'} · ${count}`
    + (today > 0 ? `, сегодня ${today}` : '');
}

/** The first names of a list, and how many there are beside them. */
function some(people, name, most) {
  const shown = people.slice(0, most).map(name).join(', ');
  return people.length > most ? `${shown} и ещё ${people.length - most}` : shown;
}

function showNothing(text) {
  state.journal = null;
  byId('grid').replaceChildren(h('p', { class: 'empty' }, text));
  setText(byId('title'), 'Журнал');
  byId('present-today').replaceChildren();
}

function show(journal) {
  state.journal = journal;
  setText(byId('title'), `Группа ${journal.group}, журнал № ${journal.journal}`);
  document.title = `${journal.group}, журнал № ${journal.journal} — Журнал посещаемости`;
  showPeople(journal);
  if (!isShown(journal)) {
    forget();
    const isSame = buildGrid(journal, { click, digit, menu });
    showStanding(journal);
    if (!isSame) {
      scrollToToday(journal.today);
    }
  } else {
    showStanding(journal);
  }
  showHint();
}

function showPeople({ students, teachers, deaneries }) {
  const here = (people) => people.map(({ number, name }) => ({ number, name }));
  relevant.student = students.map((one) => ({ number: one.student, name: one.name }));
  relevant.leader = students.filter((one) => one.leader)
    .map((one) => ({ number: one.student, name: one.name }));
  [relevant.teacher, relevant.deanery] = [here(teachers), here(deaneries)];
  const names = some(teachers, (one) => one.name ?? `№ ${one.number}`, 3);
  const one = teachers.length === 1 ? 'Преподаватель' : 'Преподаватели';
  setText(byId('teachers'), names ? `${one}: ${names}` : '');
}

function showStanding({ journal, students, lessons, cells }) {
  const standing = new Map(cells.map((cell) => [`${cell.student}/${cell.lesson}`, cell]));
  for (const { student } of students) {
    for (const { lesson } of lessons) {
      const mark = standing.get(`${student}/${lesson}`) ?? null;
      takeStanding(cellAt(journal, student, lesson), mark);
    }
  }
}

function takeCell(told) {
  if (told.journal === state.journal?.journal) {
    takeChange(cellAt(told.journal, told.student, told.lesson), told);
  }
}

// -- Clicks ---------------------------------------------------------------------------------------

function click({ cell, lesson }) {
  if (cell.state === 'failed') {
    retry(cell);
  } else {
    setIfOpen(cell, lesson, shownMark(cell) === 1 ? 0 : 1);
  }
}

function digit({ cell, lesson }, mark) {
  if (marksOfPerson().includes(mark)) {
    setIfOpen(cell, lesson, mark);
  } else if (actingPerson()) {
    toast(`Отметка «${MARKS[mark].name}» этой роли недоступна.`, 'error');
  } else {
    openChooser();
  }
}

function menu(target, button) {
  hideTip();
  if (target.lesson.locked) {
    toast('Занятие заблокировано для редактирования');
  } else if (actingPerson()) {
    const set = (mark, certificate) => setIfOpen(target.cell, target.lesson, mark, certificate);
    openMenu(target, button, marksOfPerson(), set);
  } else {
    openChooser();
  }
}

function setIfOpen(cell, lesson, mark, certificate) {
  if (lesson.locked) {
    toast('Занятие заблокировано для редактирования');
  } else if (!actingPerson()) {
    openChooser();
  } else {
    setMark(cell, lesson.date, mark, certificate);
  }
}

/** One after the other, so that the server does not refuse them for being too many at once. */
async function retryAll() {
  for (const cell of unconfirmed()) {
    await retry(cell);
  }
}

const marksOfPerson = () => ALLOWED[actingPerson()?.kind] ?? [];

// -- What is said above the table -----------------------------------------------------------------

/** Counts who is present, and what is not confirmed; once for all changes of one moment. */
function tally() {
  if (isTallyAsked) {
    return;
  }
  isTallyAsked = true;
  queueMicrotask(() => {
    isTallyAsked = false;
    showPresent();
    showUnconfirmed();
  });
}

function showPresent() {
  if (!state.journal || !isShown(state.journal)) {
    return;
  }
  const counts = showCounts();
  const today = state.journal.lessons.filter((one) => one.today);
  const whole = state.journal.students.length;
  const lines = today.map((one) => h('span', {
    class: 'present', 'data-lesson': one.lesson, 'data-present': counts.get(one.lesson),
  }, `Занятие ${one.ordinal}, ${one.begin}–${one.end}: присутствуют `,
  h('b', {}, `${counts.get(one.lesson)} из ${whole}`)));
  byId('present-today').replaceChildren(...(lines.length > 0 ? lines : ['Сегодня занятий нет.']));
}

function showUnconfirmed() {
  const cells = unconfirmed();
  const place = byId('unconfirmed');
  place.hidden = cells.length === 0;
  if (cells.length > 0) {
    const isOne = cells.length === 1;
    setText(place.querySelector('span'), `${isOne ? 'Не подтверждена' : 'Не подтверждены'} `
      + `${marks(cells.length)}: ${cells[0].detail} Повтор безопасен: второй раз `
      + 'отметка не запишется.');
  }
}

function showHint() {
  const moment = now();
  if (moment === null || !state.journal) {
    return;
  }
  setText(byId('hint'), `Сейчас ${moment.slice(11, 16)}, ${pairText(moment.slice(11, 16))}. `
    + whatPersonMay());
}

function pairText(clock) {
  const { running, next } = slotsAt(clock);
  if (running > 0) {
    return `идёт пара ${running} (${SLOTS[running - 1].join('–')})`;
  }
  return next > 0 ? `пары сейчас нет, пара ${next} начнётся в ${SLOTS[next - 1][0]}`
    : 'пары на сегодня закончились';
}

/** Each second: what is said of the time; on a new day other lessons are today's. */
function onTick() {
  showHint();
  const day = now().slice(0, 10);
  if (state.day && state.day !== day) {
    load();
  }
  state.day = day;
}

/** The role that the acting person has in this journal; `null` for none. */
function roleHere({ kind, number }) {
  const isIn = (people) => people.some((one) => one.number === number);
  if (kind === 'student') {
    return isIn(relevant.leader) ? 'leader' : isIn(relevant.student) ? 'student' : null;
  }
  return isIn(relevant.teacher) || isIn(relevant.deanery) ? kind : null;
}

function whatPersonMay() {
  const person = actingPerson();
  if (!person) {
    return session.mode === 'login' ? 'Вход не выполнен: журнал можно только смотреть.'
      : 'Чтобы отмечать, выберите вверху страницы, кто отмечает.';
  }
  const role = roleHere(person);
  if (role === null) {
    return 'В этом журнале у выбранного человека нет прав: его можно только смотреть.';
  }
  if (role === 'student') {
    return 'Вы студент: можете отметить себя, пока идёт пара.';
  }
  if (role === 'leader') {
    return 'Вы староста: можете отмечать всех студентов журнала, пока идёт пара.';
  }
  const name = role === 'teacher' ? 'преподаватель' : 'деканат';
  return `Вы ${name}: можете отмечать всех на незакрытых занятиях; клавиши ${KEYS[role]} `
    + 'ставят отметку сразу.';
}

// -- Start ----------------------------------------------------------------------------------------

function chooseGroup() {
  const group = byId('group').value.trim();
  if (state.groups.includes(group) && group !== state.group) {
    [state.group, state.number] = [group, null];
    remember({ group }, { push: true });
    load();
  }
}

function chooseJournal() {
  state.number = Number(byId('journal').value);
  remember({ group: state.group, journal: state.number }, { push: true });
  load();
}

function listen() {
  byId('group').addEventListener('input', chooseGroup);
  byId('group').addEventListener('focus', (event) => event.target.select());
  byId('group').addEventListener('blur', (event) => {
    event.target.value = state.group ?? '';
  });
  byId('journal').addEventListener('change', chooseJournal);
  byId('choice').addEventListener('submit', (event) => event.preventDefault());
  byId('retry-all').addEventListener('click', retryAll);
  byId('grid').addEventListener('scroll', hideTip, { passive: true });
  document.addEventListener('person', showHint);
  document.addEventListener('tick', onTick);
  addEventListener('popstate', () => {
    readAddress();
    load();
  });
  addEventListener('beforeunload', (event) => isAnyOpen() && event.preventDefault());
  // A rule that speaks of the mark that stands says that it is another one than is shown.
  onRefusal(load);
  onChange((cell, isNews) => {
    paintCell(cell, isNews);
    tally();
  });
}

function onEpoch({ cells, more, corrected }) {
  heard?.push(...cells);
  cells.forEach(takeCell);
  if (more || corrected > 0) {
    load();
  }
}

startHeader();
listen();
await ready();
stream = follow({
  load,
  confirmed: ({ cells }) => onEpoch({ cells, more: false, corrected: 0 }),
  epoch: onEpoch,
  people: load,
  clock: load,
}, () => {
  heardOf = state.number;
  return `/v1/changes${query({ journal: heardOf })}`;
});
