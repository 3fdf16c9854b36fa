// The tools in the header of every page: the clock, which the demo lets one set, and who acts.

import { actAs, actingPerson, api, Problem, query, session, toast } from './common.js';
import { byId, h, set, setText } from './dom.js';
import { day, nameOf, ROLES, shortName, SLOTS } from './format.js';

const ROLE_KEYS = ['student', 'leader', 'teacher', 'deanery'];
const clock = { base: null, since: 0 };

/** The people whom the chooser offers first, by role; the journal page puts its own here. */
export const relevant = { student: [], leader: [], teacher: [], deanery: [] };

/** The server's time now, YYYY-MM-DD HH:MM:SS; `null` before it is known. */
export function now() {
  if (clock.base === null) {
    return null;
  }
  const moment = new Date(clock.base + performance.now() - clock.since);
  return moment.toISOString().slice(0, 19).replace('T', ' ');
}

/** Fills the tools of the header, and keeps them true. */
export function startHeader() {
  document.addEventListener('now', (event) => setClock(event.detail));
  document.addEventListener('session', () => {
    setClock(session.now);
    showPerson();
    showSections();
  });
  document.addEventListener('person', showPerson);
  // On a narrow screen the list of pages is wider than the window.
  const page = document.querySelector('nav [aria-current]');
  page.closest('ul').scrollLeft = page.offsetLeft - page.offsetWidth;
  setInterval(showClock, 1000);
}

/** Leaves out the pages that are not for who looks. */
function showSections() {
  for (const link of document.querySelectorAll('nav a')) {
    const section = link.pathname.split('/').at(-1) || 'journal';
    link.parentElement.hidden = !session.sections.includes(section);
  }
}

function setClock(text) {
  // The server's time has no zone: it is counted as if it were UTC, and shown as such.
  clock.base = Date.parse(`${text.replace(' ', 'T')}Z`);
  clock.since = performance.now();
  showClock();
}

function showClock() {
  const moment = now();
  if (moment === null) {
    return;
  }
  const place = byId('clock');
  const wanted = session?.can_set_clock ? 'BUTTON' : 'SPAN';
  if (place.firstElementChild?.tagName !== wanted) {
    place.replaceChildren(clockElement(wanted));
  }
  setText(place.querySelector('.clock-time'), moment.slice(11, 16));
  setText(place.querySelector('.clock-day'), day(moment));
  document.dispatchEvent(new Event('tick'));
}

function clockElement(tag) {
  const parts = [h('b', { class: 'clock-time' }), ' ', h('span', { class: 'clock-day' })];
  if (tag === 'SPAN') {
    return h('span', { class: 'tool' }, parts);
  }
  const hint = h('span', { class: 'visually-hidden' }, 'Перевести часы: ');
  return h('button', { type: 'button', class: 'tool', onclick: openClock }, hint, parts);
}

/** A modal dialog with a title; it leaves the page when it closes. */
function dialog(title, ...children) {
  const id = 'dialog-title';
  const box = h('dialog', { class: 'dialog', 'aria-labelledby': id });
  const close = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Закрыть' }, '×');
  close.addEventListener('click', () => box.close());
  box.append(h('header', {}, h('h2', { id }, title), close), ...children);
  box.addEventListener('close', () => box.remove());
  // A click on the backdrop is a click on the dialog itself.
  box.addEventListener('click', (event) => event.target === box && box.close());
  document.body.append(box);
  box.showModal();
  return box;
}

function openClock() {
  const moment = now();
  const date = h('input', { type: 'date', id: 'clock-date', required: true });
  // A text, for a time input shows hours as the browser's language does, not the page's.
  const time = h('input', {
    id: 'clock-time', required: true, inputmode: 'numeric', size: 6, maxlength: 5,
    pattern: '([01][0-9]|2[0-3]):[0-5][0-9]', title: 'ЧЧ:ММ', autocomplete: 'off',
  });
  [date.value, time.value] = [moment.slice(0, 10), moment.slice(11, 16)];
  const slots = SLOTS.map(([begin, end], index) => h('button', {
    type: 'button', class: 'slot', onclick: () => move(startOf(begin)),
  }, h('b', {}, `${index + 1} пара`), h('span', {}, `${begin}–${end}`)));
  const form = h('form', {},
    h('div', { class: 'field' }, h('label', { for: 'clock-date' }, 'День'), date),
    h('fieldset', {}, h('legend', {}, 'Начало пары (пятая минута)'),
      h('div', { class: 'slots' }, slots)),
    h('div', { class: 'field' }, h('label', { for: 'clock-time' }, 'Или время, ЧЧ:ММ'),
      h('div', { class: 'row' }, time,
        h('button', { type: 'submit', class: 'primary' }, 'Перевести'))));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    move(time.value);
  });
  const box = dialog('Часы демонстрации', form);

  async function move(hours) {
    if (!date.reportValidity()) {
      return;
    }
    try {
      const body = { moment: `${date.value} ${hours}` };
      setClock((await api('/v1/clock', { method: 'PUT', body })).now);
      box.close();
    } catch (problem) {
      toast(problem.message, 'error');
    }
  }
}

/** Five minutes after a pair begins: then it runs beyond doubt. */
function startOf(begin) {
  const [hours, minutes] = begin.split(':');
  return `${hours}:${String(Number(minutes) + 5).padStart(2, '0')}`;
}

function showPerson() {
  const person = actingPerson();
  const role = person ? ROLES[ROLE_KEYS.indexOf(person.role)] : 'Отмечает';
  const isDemo = session?.mode !== 'login';
  const name = person ? nameOf(person) : isDemo ? 'не выбран' : 'вход не выполнен';
  const parts = [
    h('span', { class: 'person-role' }, role),
    h('b', { class: 'person-name', title: name }, person?.name ? shortName(name) : name),
  ];
  byId('person').replaceChildren(isDemo
    ? h('button', {
      type: 'button', class: 'tool person', id: 'choose-person', onclick: openChooser,
    }, parts)
    : h('span', { class: 'tool person' }, parts));
}

/** Lets one choose who acts. */
export function openChooser() {
  if (session.mode === 'login') {
    toast('Вход не выполнен: отмечать нельзя.', 'error');
    return;
  }
  const state = { role: actingPerson()?.role ?? 'leader', search: 0 };
  const words = h('input', {
    type: 'search', id: 'person-search', autocomplete: 'off', placeholder: 'Фамилия или номер',
  });
  const list = h('ul', { class: 'people-list' });
  const status = h('p', { class: 'muted', role: 'status' });
  const box = dialog('Кто отмечает',
    h('fieldset', { class: 'roles' }, h('legend', { class: 'visually-hidden' }, 'Роль'),
      ROLE_KEYS.map((key, index) => roleChoice(key, ROLES[index]))),
    h('div', { class: 'field' }, h('label', { for: 'person-search' }, 'Поиск'), words),
    status, list);
  words.addEventListener('input', show);
  show();

  function roleChoice(key, name) {
    const input = h('input', { type: 'radio', name: 'role', value: key });
    input.checked = key === state.role;
    input.addEventListener('change', () => {
      state.role = key;
      show();
    });
    return h('label', { class: 'chip-choice' }, input, name);
  }

  async function show() {
    const turn = ++state.search;
    const text = words.value.trim().toLowerCase();
    const own = relevant[state.role].filter((person) => matches(person, text));
    list.replaceChildren(...own.map((person) => item(person, 'в этом журнале')));
    const known = new Set(own.map((person) => person.number));
    const others = text.length >= 2 || own.length === 0 ? await search(text, state.role) : [];
    if (turn !== state.search) {
      return;
    }
    const rest = others.filter((person) => !known.has(person.number));
    list.append(...rest.map((person) => item(person, person.place)));
    setText(status, own.length + rest.length > 0
      ? 'Сначала — люди открытого журнала; поиск находит и остальных.' : 'Никого не нашлось.');
  }

  function item(person, place) {
    const chosen = actingPerson();
    const isChosen = chosen?.role === state.role && chosen?.number === person.number;
    const kind = state.role === 'leader' ? 'student' : state.role;
    const button = h('button', { type: 'button', 'data-person': `${kind}:${person.number}` },
      h('b', {}, nameOf(person)), h('span', { class: 'muted' }, `№ ${person.number}, ${place}`));
    set(button, 'aria-current', isChosen ? 'true' : null);
    button.addEventListener('click', () => {
      box.close();
      actAs({ role: state.role, kind, number: person.number, name: person.name });
    });
    return h('li', {}, button);
  }
}

const matches = (person, text) => text === '' || String(person.number).startsWith(text)
  || (person.name ?? '').toLowerCase().includes(text);

/** People of a role anywhere in the university. */
async function search(text, role) {
  const isStudent = role === 'student' || role === 'leader';
  const kind = isStudent ? 'student' : 'employee';
  try {
    const { people } = await api(`/v1/people${query({ query: text, kind, limit: 50 })}`);
    return people.filter((person) => person.number !== null
      && (role !== 'leader' || person.leads.length > 0)
      && (role !== 'deanery' || person.deanery))
      .map((person) => ({ ...person, place: person.group ?? person.kafedra ?? '—' }));
  } catch (problem) {
    if (problem instanceof Problem) {
      toast(problem.message, 'error');
      return [];
    }
    throw problem;
  }
}
