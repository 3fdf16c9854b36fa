// What both boards share: filters in the address, numbers, bars and a table, all kept true at once.
// A page has one board, so its state is that of this module.

import { startChart } from './chart.js';
import { api, follow, query, ready, remember, singleFlight } from './common.js';
import { byId, flash, h, set, setText } from './dom.js';
import { day, integer, percent } from './format.js';
import { startHeader } from './header.js';
import { Pick } from './picks.js';

const ZOOM_PAUSE_MS = 300;

const asked = new URLSearchParams(location.search);
/** The days that were chosen; `null` is the first or the last one. */
// What an address says that is no day says nothing.
const dayIn = (text) => (/^\d{4}-\d{2}-\d{2}$/.test(text ?? '') ? text : null);
const range = { since: dayIn(asked.get('since')), until: dayIn(asked.get('until')) };
const sort = { key: null, isDown: true };
const shown = { rows: [], elements: new Map() };
let board = null;
let picks = [];
let chart = null;
let zoomTimer = null;
let isZoomDue = true;
/** Whether what comes next was asked for: then it is no news, and nothing flashes. */
let isAsked = true;

/**
 * Starts a board. It says its `path`, its `filters` as `[name, title, key of the answer]`,
 * `rowsOf(answer)`, `keyOf(row)`, `noteOf(answer)`, and `columns`: by the name of each sort button,
 * `value(row)` to sort by, and `text(row)` to show.
 */
export async function startBoard(wanted) {
  board = wanted;
  startHeader();
  picks = board.filters.map(([name, title]) => (
    new Pick(name, title, new Set(asked.getAll(name)), changed)));
  chart = startChart((since, until) => {
    clearTimeout(zoomTimer);
    zoomTimer = setTimeout(() => choose(since, until), ZOOM_PAUSE_MS);
  });
  listen();
  await ready();
  follow({ load, epoch: load, clock: load, people: load }, () => '/v1/changes?cells=false');
}

/** The bars always show all days, so that the slider has them; the table those of the range. */
const load = singleFlight(async () => {
  const filters = chosen();
  const isNews = !isAsked;
  isAsked = false;
  const whole = api(board.path + query(filters));
  const isPart = range.since || range.until;
  const part = isPart ? api(board.path + query({ ...filters, ...range })) : whole;
  const answers = await Promise.all([whole, part]);
  show(...answers, isNews);
});

const chosen = () => Object.fromEntries(picks.map((one) => [one.name, [...one.chosen]]));

// -- What is shown --------------------------------------------------------------------------------

function show(whole, part, isNews) {
  const areDaysOther = chart.show(whole.days);
  if (isZoomDue || areDaysOther) {
    chart.zoom(range.since, range.until);
    isZoomDue = false;
  }
  board.filters.forEach(([, , key], index) => picks[index].offer(whole.filters[key]));
  showFigures(whole.today, part.total, isNews);
  showPeriod(whole.days);
  shown.rows = board.rowsOf(part);
  setText(byId('table-note'), board.noteOf(part));
  showRows(isNews);
  byId('main').dataset.epoch = Math.min(whole.epoch, part.epoch);
}

function showPeriod(days) {
  const [first, last] = [range.since ?? days[0]?.date, range.until ?? days.at(-1)?.date];
  setText(byId('period'), first && last ? `С ${day(first)} по ${day(last)}` : 'Отметок пока нет');
  [byId('since').value, byId('until').value] = [range.since ?? '', range.until ?? ''];
}

function showFigures(today, total, isNews) {
  const texts = {
    'marks-today': integer(today.marks),
    'today-parts': `Присутствий ${integer(today.present)}, пропусков ${integer(today.absent)}`,
    share: percent(total.present, total.marks),
    'marks-total': integer(total.marks),
    'total-parts': `Присутствий ${integer(total.present)}, пропусков ${integer(total.absent)}, `
      + `других ${integer(total.other)}`,
  };
  for (const [id, text] of Object.entries(texts)) {
    tell(byId(id), text, isNews);
  }
  byId('meter').style.width = `${total.marks > 0 ? (100 * total.present) / total.marks : 0}%`;
}

/** Shows a text, and lets it flash where it is news. */
function tell(element, text, isNews) {
  if (setText(element, text) && isNews) {
    flash(element);
  }
}

function showRows(isNews) {
  const elements = new Map();
  for (const row of sorted(shown.rows)) {
    const key = board.keyOf(row);
    const known = shown.elements.get(key);
    const element = known ?? emptyRow();
    Object.values(board.columns).forEach(({ text }, index) => (
      tell(element.children[index], text(row), isNews && known !== undefined)));
    elements.set(key, element);
  }
  shown.elements = elements;
  place(byId('rows'), [...elements.values()]);
}

/** Puts rows into their order; leaves them alone where they stand in it. */
function place(body, rows) {
  const isSame = body.children.length === rows.length
    && rows.every((row, index) => body.children[index] === row);
  if (!isSame) {
    body.replaceChildren(...rows);
  }
}

function emptyRow() {
  const cells = Object.values(board.columns).map(({ isText }, index) => (index === 0
    ? h('th', { scope: 'row' }) : h('td', { class: isText ? null : 'number' })));
  return h('tr', {}, cells);
}

function sorted(rows) {
  if (sort.key === null) {
    return rows;
  }
  const { value, isText } = board.columns[sort.key];
  const order = (a, b) => (isText ? value(a).localeCompare(value(b), 'ru') : value(a) - value(b));
  return rows.toSorted((a, b) => (sort.isDown ? order(b, a) : order(a, b)));
}

// -- What is chosen -------------------------------------------------------------------------------

function changed() {
  isAsked = true;
  remember({ ...chosen(), ...range });
  load();
}

function choose(since, until) {
  if (since !== range.since || until !== range.until) {
    Object.assign(range, { since, until });
    changed();
  }
}

function chooseSort(key) {
  sort.isDown = sort.key === key ? !sort.isDown : !board.columns[key].isText;
  sort.key = key;
  for (const button of document.querySelectorAll('.sort')) {
    const isBy = button.dataset.sort === key;
    const order = sort.isDown ? 'descending' : 'ascending';
    set(button.parentElement, 'aria-sort', isBy ? order : null);
  }
  showRows(false);
}

function chooseDays() {
  isZoomDue = true;
  const [since, until] = [byId('since').value || null, byId('until').value || null];
  // A period goes from the earlier day to the later one, whichever was chosen first.
  choose(...(since && until && since > until ? [until, since] : [since, until]));
}

function reset() {
  picks.forEach((one) => one.clear());
  isZoomDue = true;
  Object.assign(range, { since: null, until: null });
  changed();
}

function listen() {
  for (const button of document.querySelectorAll('.sort')) {
    button.addEventListener('click', () => chooseSort(button.dataset.sort));
  }
  byId('since').addEventListener('change', chooseDays);
  byId('until').addEventListener('change', chooseDays);
  byId('reset').addEventListener('click', reset);
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
}
