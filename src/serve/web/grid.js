// The table of a journal: builds it, shows its cells, and moves among them by keys.

import { cellAt, shownMark, shownState } from './cells.js';
import { byId, flash, h, placeAside, set, setText } from './dom.js';
import {
  day, fullMoment, kindName, MARKS, moment, nameOf, ROLES, shortDay, shortName, SLOTS,
} from './format.js';

const MOVES = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
};
const tip = h('div', { class: 'tip', role: 'tooltip', hidden: true });
const more = h('button', { type: 'button', class: 'more', 'aria-label': 'Все отметки' }, '…');

/** What is shown: the journal, its students and lessons by number, and its buttons. */
let shown = null;

/** What a button of the table stands for. */
export function behind(button) {
  const { student, lesson } = button.dataset;
  return {
    cell: cellAt(shown.journal, Number(student), Number(lesson)),
    student: shown.students.get(Number(student)),
    lesson: shown.lessons.get(Number(lesson)),
  };
}

/** Whether a journal has the students and lessons of the one that is shown. */
export const isShown = (journal) => shown?.shape === shapeOf(journal);

function shapeOf(journal) {
  const lessons = journal.lessons.map((one) => [one.lesson, one.date, one.locked, one.today]);
  const students = journal.students.map((one) => [one.student, one.name, one.leader]);
  return JSON.stringify([journal.journal, lessons, students]);
}

/** Puts the table of a journal into its place; `actions` say what a click, key or menu does. */
export function buildGrid(journal, actions) {
  const isSame = shown?.journal === journal.journal;
  const place = byId('grid');
  const { scrollLeft, scrollTop } = place;
  const { student, lesson } = document.activeElement?.dataset ?? {};
  shown = {
    journal: journal.journal,
    shape: shapeOf(journal),
    students: new Map(journal.students.map((one) => [one.student, one])),
    lessons: new Map(journal.lessons.map((one) => [one.lesson, one])),
    rows: [],
    buttons: new Map(),
  };
  const table = h('table', { class: 'journal', role: 'grid', 'aria-label': titleOf(journal) },
    headOf(journal), bodyOf(journal), footOf(journal));
  listen(table, actions);
  place.replaceChildren(table);
  if (isSame) {
    place.scrollTo(scrollLeft, scrollTop);
    shown.buttons.get(`${student}/${lesson}`)?.focus();
  }
  return isSame;
}

const titleOf = ({ journal, group }) => `Журнал № ${journal}, группа ${group}`;

function headOf(journal) {
  const heads = journal.lessons.map((one) => h('th', {
    scope: 'col', class: columnClass(one), 'data-lesson': one.lesson, title: slotOf(one),
  }, h('span', { class: 'ordinal' }, one.ordinal), h('span', { class: 'date' }, shortDay(one.date)),
  h('span', { class: 'kind' }, one.kind)));
  return h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'name' }, 'Студент'), heads));
}

function slotOf({ slot }) {
  const [begin, end] = SLOTS[slot - 1] ?? [];
  return begin ? `${slot} пара, ${begin}–${end}` : null;
}

function columnClass({ locked, today }) {
  return today ? 'today' : locked && 'locked';
}

function bodyOf(journal) {
  const rows = journal.students.map((student, index) => {
    const buttons = journal.lessons.map((lesson) => buttonOf(student, lesson));
    shown.rows.push(buttons);
    const name = h('th', { scope: 'row', class: student.leader ? 'name leader' : 'name' },
      h('span', { class: 'who' }, h('span', { class: 'number' }, index + 1),
        h('span', { class: 'full' }, `${student.name} `,
          student.leader ? h('span', { class: 'badge' }, 'староста') : null)));
    const cells = buttons.map((button, column) => h('td', {
      class: columnClass(journal.lessons[column]),
    }, button));
    return h('tr', {}, name, cells);
  });
  shown.rows[0]?.at(-1)?.setAttribute('tabindex', 0);
  return h('tbody', {}, rows);
}

function buttonOf(student, lesson) {
  const button = h('button', {
    type: 'button',
    class: 'cell',
    tabindex: -1,
    'data-student': student.student,
    'data-lesson': lesson.lesson,
    'aria-disabled': lesson.locked ? 'true' : null,
  });
  shown.buttons.set(`${student.student}/${lesson.lesson}`, button);
  return button;
}

function footOf(journal) {
  const counts = journal.lessons.map((one) => h('td', {
    class: columnClass(one), 'data-present': one.lesson,
  }));
  const name = h('th', { scope: 'row', class: 'name' }, 'Присутствуют');
  return h('tfoot', {}, h('tr', {}, name, counts));
}

/** Shows how many are present at each lesson; gives the counts by lesson. */
export function showCounts() {
  const counts = new Map();
  for (const lesson of shown.lessons.keys()) {
    const here = [...shown.students.keys()]
      .filter((student) => shownMark(cellAt(shown.journal, student, lesson)) === 1).length;
    counts.set(lesson, here);
    setText(byId('grid').querySelector(`[data-present="${lesson}"]`), here);
  }
  return counts;
}

/** Shows a cell as it is; `isNews` lets it flash. */
export function paintCell(cell, isNews) {
  const button = shown?.buttons.get(`${cell.student}/${cell.lesson}`);
  if (!button || cell.journal !== shown.journal) {
    return;
  }
  const mark = shownMark(cell);
  setText(button, mark === null ? '' : MARKS[mark].sign);
  set(button, 'data-mark', mark ?? '');
  set(button, 'data-state', shownState(cell));
  set(button, 'aria-label', labelOf(behind(button)));
  if (isNews) {
    flash(button);
  }
  if (button === tip.anchor && !tip.hidden) {
    showTip(button);
  }
}

function labelOf({ cell, student, lesson }) {
  const place = `${student.name}, занятие ${lesson.ordinal}, ${shortDay(lesson.date)}, `
    + kindName(lesson.kind);
  const locked = lesson.locked ? ', занятие закрыто' : '';
  return `${place}: ${markText(cell)}${locked}`;
}

function markText(cell) {
  const mark = shownMark(cell);
  const name = mark === null ? 'не отмечено' : MARKS[mark].name.toLowerCase();
  if (cell.state === 'pending') {
    return `${name}, сохраняется`;
  }
  if (cell.state === 'failed') {
    return `${name}, не подтверждено, нажмите, чтобы повторить`;
  }
  return [name, certificateOf(cell), authorOf(cell), cell.detail].filter(Boolean).join(', ');
}

const certificateOf = ({ standing }) => standing?.certificate
  && `справка № ${standing.certificate}`;

function authorOf({ standing }) {
  if (!standing) {
    return null;
  }
  const { by, when } = standing;
  const role = (ROLES[by.role] ?? 'роль не указана').toLowerCase();
  return `отметил(а) ${by.name ? shortName(by.name) : nameOf(by)}, ${role}, ${moment(when)}`;
}

function listen(table, actions) {
  const buttonOfEvent = (event) => event.target.closest('.cell');
  const on = (type, action) => table.addEventListener(type, (event) => {
    const button = buttonOfEvent(event);
    if (button) {
      action(button, event);
    }
  });
  on('click', (button) => {
    // Some browsers do not focus a button that is clicked.
    button.focus();
    actions.click(behind(button));
  });
  on('contextmenu', (button, event) => {
    event.preventDefault();
    button.focus();
    actions.menu(behind(button), button);
  });
  on('keydown', (button, event) => onKey(button, event, actions));
  on('focusin', (button) => enter(button));
  on('pointerover', (button, event) => event.pointerType === 'mouse' && showTip(button));
  table.addEventListener('pointerout', hideTip);
  table.addEventListener('focusout', hideTip);
  more.onclick = () => {
    const button = more.parentElement.querySelector('.cell');
    actions.menu(behind(button), button);
  };
}

function onKey(button, event, actions) {
  const { key, ctrlKey, altKey, metaKey } = event;
  const rows = shown.rows;
  const row = rows.findIndex((buttons) => buttons.includes(button));
  const column = rows[row].indexOf(button);
  if (key === 'Escape') {
    hideTip();
  } else if (key === 'F10' || key === 'ContextMenu') {
    event.preventDefault();
    actions.menu(behind(button), button);
  } else if (MOVES[key] && !altKey && !metaKey) {
    event.preventDefault();
    rows[row + MOVES[key][0]]?.[column + MOVES[key][1]]?.focus();
  } else if (key === 'Home' || key === 'End') {
    event.preventDefault();
    const line = ctrlKey ? rows.at(key === 'Home' ? 0 : -1) : rows[row];
    line.at(key === 'Home' ? 0 : -1).focus();
  } else if (/^[0-5]$/.test(key) && !ctrlKey && !altKey && !metaKey) {
    event.preventDefault();
    actions.digit(behind(button), Number(key));
  }
}

/** One cell alone is reached by Tab: the one that was focused last. */
function enter(button) {
  byId('grid').querySelector('.cell[tabindex="0"]')?.setAttribute('tabindex', -1);
  button.setAttribute('tabindex', 0);
  if (!behind(button).lesson.locked && more.parentElement !== button.parentElement) {
    button.after(more);
  }
  showTip(button);
}

/** Says beside a cell who set its mark, when, and in which role. */
function showTip(button) {
  const { cell, lesson } = behind(button);
  const { standing } = cell;
  const mark = shownMark(cell);
  const name = mark === null ? 'Не отмечено' : MARKS[mark].name;
  const number = mark === 2 && standing?.certificate ? `, ${certificateOf(cell)}` : '';
  const place = `Занятие ${lesson.ordinal}, ${kindName(lesson.kind)}, ${day(lesson.date)}`;
  // What was clicked and is not confirmed is nobody's yet.
  const author = standing && !cell.click && [
    h('span', {}, `${ROLES[standing.by.role] ?? 'Роль не указана'}: ${nameOf(standing.by)}`),
    h('span', {}, fullMoment(standing.when)),
  ];
  tip.replaceChildren(h('b', {}, name + number), ...(author || []),
    h('span', { class: 'tip-place' }, [place, slotOf(lesson)].filter(Boolean).join(', ')),
    ...tipNotes(cell, lesson).map((note) => h('span', { class: 'tip-note' }, note)));
  tip.anchor = button;
  tip.hidden = false;
  byId('main').append(tip);
  // On a phone it is at an edge of the screen: at the other one than the cell.
  tip.classList.toggle('above', button.getBoundingClientRect().top > innerHeight / 2);
  // Aside, for below are the cells that are marked next.
  placeAside(tip, button);
}

function tipNotes(cell, lesson) {
  const failed = cell.state === 'failed' && 'Не подтверждено. Нажмите ещё раз, чтобы повторить.';
  return [lesson.locked && 'Занятие закрыто.', failed, cell.detail].filter(Boolean);
}

export function hideTip() {
  tip.hidden = true;
}

/** Scrolls to today's column, or else to the last one that was. */
export function scrollToToday(today) {
  const lessons = [...shown.lessons.values()];
  const goal = lessons.findLast((one) => one.today) ?? lessons.findLast((one) => one.date <= today);
  const place = byId('grid');
  const head = goal && place.querySelector(`th[data-lesson="${goal.lesson}"]`);
  if (head) {
    place.scrollLeft = head.offsetLeft + head.offsetWidth - place.clientWidth;
    const column = lessons.indexOf(goal);
    place.querySelector('.cell[tabindex="0"]')?.setAttribute('tabindex', -1);
    shown.rows[0]?.[column]?.setAttribute('tabindex', 0);
  }
}
