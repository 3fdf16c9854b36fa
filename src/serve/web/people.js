// The page of people: finds somebody and edits the card; then all their history is corrected.

import { api, follow, query, ready, remember, session, toast } from './common.js';
import { byId, h, set, setText } from './dom.js';
import { integer, marks, plural } from './format.js';
import { startHeader } from './header.js';

const TYPING_MS = 200;
const CORRECTED_WITHIN_MS = 8000;
const FIELDS = {
  student: {
    name: 'ФИО', group: 'Группа', course: 'Курс', specialization: 'Направление подготовки',
  },
  employee: { name: 'ФИО', position: 'Должность', kafedra: 'Кафедра', faculty: 'Факультет' },
};
const state = { id: null, person: null, turn: 0, saved: null };

// -- Search ---------------------------------------------------------------------------------------

async function search() {
  const turn = ++state.turn;
  const asked = { query: byId('words').value.trim(), kind: byId('kind').value };
  rememberAll();
  const { people, total } = await api(`/v1/people${query({ ...asked, limit: 50 })}`);
  if (turn !== state.turn) {
    return;
  }
  byId('people').replaceChildren(...people.map(item));
  const all = plural(total, 'человек', 'человека', 'человек');
  setText(byId('found'), total > people.length
    ? `${all}, показаны первые ${integer(people.length)}` : all);
}

function rememberAll() {
  const words = byId('words').value.trim();
  remember({ query: words, kind: byId('kind').value, id: state.id });
}

function item(person) {
  const button = h('button', { type: 'button', 'data-id': person.id },
    h('b', {}, person.name ?? 'Без имени'), h('span', { class: 'muted' }, placeOf(person)));
  set(button, 'aria-current', person.id === state.id ? 'true' : null);
  button.addEventListener('click', () => attempt(async () => {
    await open(person.id);
    // Past the rest of the list, for those who use the keyboard or a small screen.
    byId('card-title').focus();
  }));
  return h('li', {}, button);
}

function placeOf(person) {
  const place = person.kind === 'student' ? person.group : person.position;
  const number = person.number === null ? 'без номера' : `№ ${person.number}`;
  return [place, number].filter(Boolean).join(', ');
}

// -- The card -------------------------------------------------------------------------------------

const pathOf = (id) => `/v1/people/${encodeURIComponent(id)}`;

async function open(id) {
  state.id = id;
  state.person = await api(pathOf(id));
  rememberAll();
  for (const button of byId('people').querySelectorAll('button')) {
    set(button, 'aria-current', button.dataset.id === id ? 'true' : null);
  }
  byId('saved').replaceChildren();
  showCard();
}

function showCard() {
  const { person } = state;
  const isOpen = session.can_edit_people;
  const fields = Object.entries(FIELDS[person.kind])
    .map(([name, title]) => field(name, title, person[name], isOpen));
  const save = h('button', { type: 'submit', class: 'primary', id: 'save' }, 'Сохранить');
  const form = h('form', { class: 'card-form', id: 'card-form' },
    h('p', { class: 'muted' }, aboutOf(person)), fields,
    isOpen ? h('div', { class: 'row' }, save, h('button', { type: 'reset' }, 'Вернуть'))
      : h('p', { class: 'muted' }, 'Карточки здесь только показываются: их ведут другие системы.'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(() => store(form, save));
  });
  byId('card').replaceChildren(form);
}

function aboutOf({ kind, number, leads, deanery }) {
  const what = kind === 'student' ? 'Студент' : 'Сотрудник';
  const parts = [number === null ? `${what} без номера` : `${what} № ${number}`];
  if (leads?.length > 0) {
    const noun = leads.length === 1 ? 'журнала' : 'журналов';
    parts.push(`староста ${noun} ${leads.map((journal) => `№ ${journal}`).join(', ')}`);
  }
  return [...parts, deanery && 'работает в деканате'].filter(Boolean).join(', ');
}

function field(name, title, value, isOpen) {
  const input = h('input', {
    id: `card-${name}`,
    name,
    value: value ?? '',
    type: name === 'course' ? 'number' : 'text',
    min: name === 'course' ? 1 : null,
    max: name === 'course' ? 8 : null,
    list: name === 'group' ? 'groups' : null,
    // What is known is changed, not taken away: the system of record does that.
    required: isOpen && value !== null,
    readonly: !isOpen,
    autocomplete: 'off',
  });
  return h('div', { class: 'field' }, h('label', { for: `card-${name}` }, title), input);
}

/** What the form says otherwise than the card. */
function changesIn(form) {
  const changes = {};
  for (const [name, text] of new FormData(form)) {
    const value = text.trim();
    if (value !== String(state.person[name] ?? '')) {
      changes[name] = name === 'course' && value !== '' ? Number(value) : value;
    }
  }
  return changes;
}

async function store(form, save) {
  const body = changesIn(form);
  if (Object.keys(body).length === 0) {
    toast('В карточке ничего не изменено');
    return;
  }
  save.disabled = true;
  // The correction may be told before the answer comes, so it is awaited from here on.
  const corrected = correction();
  try {
    state.person = await api(pathOf(state.id), { method: 'PATCH', body });
    showCard();
    showSaved('Сохранено. История исправляется…', 'notice');
    search();
    showCorrected(state.person, await corrected);
  } finally {
    save.disabled = false;
  }
}

/** How many marks the next correction touches; `null` if none comes in time. */
function correction() {
  return new Promise((resolve) => {
    state.saved = resolve;
    setTimeout(() => resolve(null), CORRECTED_WITHIN_MS);
  });
}

function showCorrected(person, count) {
  if (person.id !== state.id) {
    return;
  }
  if (count === null) {
    showSaved('Сохранено. Отметок, которые нужно исправить, нет.', 'notice good');
    return;
  }
  const links = person.kind === 'student' ? [
    h('a', { href: `/tail${query({ student: person.number })}` }, 'Исправления в ленте'),
    person.group && h('a', { href: `/boards/groups${query({ group: person.group })}` },
      `Группа ${person.group}`),
  ].filter(Boolean) : [h('a', { href: '/tail' }, 'Исправления в ленте')];
  showSaved(`История исправлена: ${marks(count)}`, 'notice good', links);
}

function showSaved(text, kind, links = []) {
  byId('saved').replaceChildren(h('div', { class: kind }, h('span', {}, text), ...links));
}

// -- Start ----------------------------------------------------------------------------------------

/** Runs what asks the server, and shows its refusal. */
async function attempt(work) {
  try {
    await work();
  } catch (problem) {
    toast(problem.message, 'error');
  }
}

function listen() {
  let timer = null;
  byId('words').addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => attempt(search), TYPING_MS);
  });
  byId('kind').addEventListener('change', () => attempt(search));
  byId('search').addEventListener('submit', (event) => event.preventDefault());
}

function onEpoch({ corrected }) {
  if (corrected > 0) {
    state.saved?.(corrected);
  }
}

async function start() {
  const asked = new URLSearchParams(location.search);
  byId('words').value = asked.get('query') ?? '';
  byId('kind').value = asked.get('kind') ?? '';
  state.id = asked.get('id');
  await ready();
  follow({ load: () => attempt(search), epoch: onEpoch });
  byId('about').hidden = !session.can_edit_people;
  if (state.id) {
    await attempt(() => open(state.id));
  }
  const { groups } = await api('/v1/groups');
  byId('groups').replaceChildren(...groups.map((value) => h('option', { value })));
}

startHeader();
listen();
await attempt(start);
