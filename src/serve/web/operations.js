// The state of the system: what it holds, how far behind it is, and what it could not take.

import {
  api, follow, Problem, query, ready, toast,
} from './common.js';
import { byId, h, setText } from './dom.js';
import { bytes, decimal, duration, integer, plural } from './format.js';
import { startHeader } from './header.js';

const EVERY_MS = 2000;
const POINTS = 60;
const LETTERS = 50;
const BYTES_SHOWN = 512;
// An engine commits what comes within a second, and a feed speaks once a minute.
const LATE_MS = 30_000;
const SILENT_MS = 180_000;
const REASONS = {
  too_long: 'слишком длинная',
  not_utf8: 'не UTF-8',
  not_json: 'не JSON',
  too_deep: 'слишком глубокая вложенность',
  not_object: 'не объект',
  missing: 'нет обязательного поля',
  wrong_form: 'неверный вид значения',
  out_of_range: 'значение вне границ',
  behind_horizon: 'пришла слишком поздно',
  key_taken: 'номер уже занят другой записью',
};
const reasonOf = (reason) => REASONS[reason] ?? reason;

/** The numbers of the last two minutes, by what they are of. */
const history = new Map();
/** How many lines there were at the last look. */
let looked = null;
const letters = { items: [], total: null, view: 'text' };

// -- Cards ----------------------------------------------------------------------------------------

async function poll() {
  if (!document.hidden) {
    try {
      const status = await api('/v1/status');
      showCards(status);
      if (status.dead_letters.total !== letters.total) {
        await loadLetters(status.dead_letters.total);
      }
    } catch (problem) {
      if (!(problem instanceof Problem)) {
        throw problem;
      }
      setText(byId('summary'), 'Состояние сейчас неизвестно: сервер не отвечает.');
    }
  }
  setTimeout(poll, EVERY_MS);
}

function showCards(status) {
  const { events, documents, records, clicks, memory, dead_letters: dead } = status;
  setText(byId('summary'), `Работает ${duration(status.uptime_s)}, `
    + `открыто страниц: ${integer(status.watchers)}`);
  const behind = events.behind + documents.behind;
  const rate = perSecond(events.lines);
  byId('cards').replaceChildren(
    card('Готовность', state(status.ready, 'Готов', 'Читает историю'), {
      Эпоха: integer(status.epoch),
      Отставание: plural(behind, 'строка', 'строки', 'строк'),
    }),
    card('События в секунду', decimal(rate), {
      'Прочитано строк': integer(events.lines), Отставание: integer(events.behind),
    }, { line: spark('events', rate) }),
    card('Записи', integer(records.held), {
      'Последних отметок': integer(records.latest), 'Ждут исправления': integer(records.waiting),
    }),
    card('Клики: p99', time(clicks.p99_ms), {
      'Половина быстрее': time(clicks.p50_ms),
      Принято: integer(clicks.accepted),
      'Отказано по правилам': integer(clicks.refused),
      'Не записано': integer(clicks.failed),
    }, { line: spark('clicks', clicks.p99_ms) }),
    card('Карточки людей', integer(documents.held), {
      'Прочитано изменений': integer(documents.changes),
      'Не принято': integer(documents.refused),
      Отставание: integer(documents.behind),
    }),
    card('Память', bytes(memory.resident_bytes), {}, {
      line: spark('memory', memory.resident_bytes),
    }),
    ...(status.cluster ? clusterCards(status.cluster) : []),
    card('Непринятые строки', integer(dead.total), Object.fromEntries(
      Object.entries(dead.by_reason).map(([reason, count]) => [reasonOf(reason), integer(count)])),
    { isWide: true }),
  );
}

/** Of a cluster: its start, writers, inputs and feeds. */
function clusterCards({ looked_ms: looked, lead, writers, inputs, rates, feeds }) {
  const now = Date.now();
  // The end of a transaction is an offset too: one of them may be all that is left.
  const isBehind = inputs.some(({ lag }) => lag > 1);
  const cards = writers.map(({ worker, epoch, waiting, resident_bytes: resident }) => {
    const isWell = !(isBehind && now - epoch > LATE_MS);
    return card(`Рабочий ${worker}`, state(isWell, age(now - epoch), age(now - epoch)), {
      'Ждут исправления': integer(waiting),
      Память: bytes(resident),
    }, { hint: isWell ? 'последняя фиксация' : 'последняя фиксация, а события ждут' });
  });
  const lags = Object.fromEntries(inputs.map(({ topic, partition, lag }) => (
    [`${topic}/${partition}`, integer(lag)])));
  cards.push(card('Входы: отставание', integer(inputs.reduce((sum, one) => sum + one.lag, 0)),
    { ...lags, ...(rates && { 'Пришло в секунду': decimal(rates.came / rates.seconds) }) },
    { isWide: true, hint: `Концы транзакций считаются тоже, по одному на вход. Так было ${
      age(now - looked)}.` }));
  if (now - looked > LATE_MS) {
    cards.unshift(card('Кластер', state(false, '', 'Не отвечает'),
      { 'Последние сведения': age(now - looked) }));
  }
  for (const [source, feed] of Object.entries(feeds)) {
    const { documents, refused, answered, trouble } = feed.state;
    // A feed says each minute how it is.
    const isSilent = now - feed.state.at * 1000 > SILENT_MS;
    const isWell = !trouble && !feed.hold && !isSilent;
    cards.push(card(`Источник ${source}`, state(isWell, 'Работает', 'Требует внимания'), {
      Карточек: integer(documents),
      'Не принято': integer(refused),
      'Отвечал': answered ? age(now - answered * 1000) : '—',
      ...(isSilent && { 'Молчит': age(now - feed.state.at * 1000) }),
      ...(trouble && { 'Что не так': trouble }),
      ...(feed.hold && { Ждёт: 'слова оператора (tributary accept)' }),
    }));
  }
  return lead ? cards : [card('Движок', state(false, '', 'Ещё не запускался'), {}), ...cards];
}

/** How long ago, in words. */
const age = (ms) => `${duration(Math.max(0, Math.round(ms / 1000)))} назад`;

const time = (ms) => (ms === null ? '—' : `${decimal(ms)} мс`);

const state = (isGood, good, bad) => (
  h('span', { class: isGood ? 'good' : 'bad' }, isGood ? good : bad));

function card(title, value, facts, { line = null, isWide = false, hint = null } = {}) {
  const pairs = Object.entries(facts)
    .flatMap(([name, fact]) => [h('dt', {}, name), h('dd', {}, fact)]);
  return h('section', { class: isWide ? 'tile wide' : 'tile' },
    h('h2', {}, title), h('p', { class: 'value' }, value),
    hint && h('p', { class: 'muted' }, hint), line,
    pairs.length > 0 ? h('dl', {}, pairs) : null);
}

/** How many lines came in a second, since the look before. */
function perSecond(lines) {
  const [now, last] = [performance.now(), looked];
  looked = { lines, at: now };
  return last ? Math.max(0, lines - last.lines) * 1000 / (now - last.at) : 0;
}

/** A small line of the last values, from zero up. */
function spark(name, value) {
  const values = [...(history.get(name) ?? []), value].slice(-POINTS);
  history.set(name, values);
  const [width, height, greatest] = [96, 34, Math.max(...values, 1e-9)];
  const points = values.map((one, index) => {
    const x = width - (values.length - 1 - index) * (width / (POINTS - 1));
    return `${x.toFixed(1)},${(height - 2 - (one / greatest) * (height - 4)).toFixed(1)}`;
  });
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('class', 'spark');
  svg.setAttribute('aria-hidden', 'true');
  line.setAttribute('points', points.join(' '));
  svg.append(line);
  return svg;
}

// -- Dead letters ---------------------------------------------------------------------------------

async function loadLetters(total) {
  const answer = await api(`/v1/dead-letters${query({ limit: LETTERS })}`);
  letters.total = total;
  letters.items = answer.letters;
  letters.isEnd = false;
  showLetters();
}

async function loadOlder() {
  const before = letters.items.at(-1).number;
  try {
    const answer = await api(`/v1/dead-letters${query({ limit: LETTERS, before })}`);
    letters.items.push(...answer.letters);
    letters.isEnd = answer.letters.length === 0;
    showLetters();
  } catch (problem) {
    toast(problem.message, 'error');
  }
}

function showLetters() {
  const { items, total, isEnd } = letters;
  byId('letters').replaceChildren(...items.map(row));
  byId('older').hidden = isEnd || items.length >= total;
  setText(byId('letters-note'), total === 0 ? 'Все строки приняты.'
    : `Показано ${integer(items.length)} из ${integer(total)}, последние сверху.`);
}

function row({ number, input, line, reason, column, size, base64 }) {
  const why = column === null ? reasonOf(reason) : `${reasonOf(reason)}: ${column}`;
  const isHex = letters.view === 'hex';
  const content = isHex ? hex(base64) : text(base64);
  return h('tr', { 'data-reason': reason },
    h('td', { class: 'number' }, integer(number)),
    h('td', {}, `${input}, строка ${integer(line)}`),
    h('td', {}, why),
    h('td', { class: 'number' }, bytes(size)),
    h('td', {}, h('pre', { class: isHex ? 'hex' : 'text' }, content)));
}

const decode = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));

/** Bytes as text: what is no UTF-8 becomes �, and control characters become visible ones. */
function text(base64) {
  const all = decode(base64);
  const decoded = new TextDecoder().decode(all.subarray(0, BYTES_SHOWN));
  return decoded.replace(/[\u0000-\u001f]/g, (sign) => (
    String.fromCodePoint(0x2400 + sign.charCodeAt(0)))) + restOf(all);
}

const restOf = (all) => (all.length > BYTES_SHOWN
  ? `\n…и ещё ${bytes(all.length - BYTES_SHOWN)}` : '');

const digits = (number, width) => number.toString(16).padStart(width, '0');

/** Bytes in lines of sixteen, with where each line begins. */
function hex(base64) {
  const all = decode(base64);
  const shown = all.subarray(0, BYTES_SHOWN);
  const lines = [];
  for (let at = 0; at < shown.length; at += 16) {
    const line = Array.from(shown.subarray(at, at + 16), (byte) => digits(byte, 2));
    lines.push(`${digits(at, 4)}  ${line.join(' ')}`);
  }
  return lines.join('\n') + restOf(all);
}

startHeader();
byId('older').addEventListener('click', loadOlder);
for (const input of document.querySelectorAll('[name="view"]')) {
  input.addEventListener('change', () => {
    letters.view = input.value;
    showLetters();
  });
}
await ready();
follow({ load: () => {} });
poll();
