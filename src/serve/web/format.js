// How numbers, days, marks and roles are written in Russian.

export const SLOTS = [
  ['09:00', '10:30'], ['10:45', '12:15'], ['12:30', '14:00'], ['15:00', '16:30'],
  ['16:45', '18:15'], ['18:30', '20:00'], ['20:15', '21:45'], ['22:00', '23:30'],
];

/** Roles by their number in a record. */
export const ROLES = ['Студент', 'Староста', 'Преподаватель', 'Деканат'];

/** Marks by their number: what the cell shows, and what it means. */
export const MARKS = [
  { sign: 'Н', name: 'Отсутствует' },
  { sign: '✓', name: 'Присутствует' },
  { sign: 'У', name: 'Уважительная причина' },
  { sign: 'П', name: 'По приказу' },
  { sign: '4', name: 'Особая 4' },
  { sign: '5', name: 'Особая 5' },
];

const KINDS = { 'лек.': 'лекция', 'пр.': 'практика', 'лаб.': 'лабораторная' };

/** The kind of a lesson in full. */
export const kindName = (kind) => KINDS[kind] ?? kind;

const INTEGER = new Intl.NumberFormat('ru-RU');
const DECIMAL = new Intl.NumberFormat('ru-RU', { maximumFractionDigits: 1 });
const RULES = new Intl.PluralRules('ru-RU');

/** 12 345 */
export const integer = (value) => INTEGER.format(value);

/** 12,5 */
export const decimal = (value) => DECIMAL.format(value);

/** A number with its noun: plural(5, 'отметка', 'отметки', 'отметок') is «5 отметок». */
export function plural(count, one, few, many) {
  const word = { one, few, many }[RULES.select(count)] ?? few;
  return `${integer(count)} ${word}`;
}

export const marks = (count) => plural(count, 'отметка', 'отметки', 'отметок');

/** 71,4 %, or a dash where there is nothing to share. */
export function percent(part, whole) {
  return whole > 0 ? `${DECIMAL.format((100 * part) / whole)} %` : '—';
}

/** 2025-03-21 as 21.03.2025 */
export function day(iso) {
  const [year, month, date] = iso.slice(0, 10).split('-');
  return `${date}.${month}.${year}`;
}

/** 2025-03-21 as 21.03 */
export const shortDay = (iso) => day(iso).slice(0, 5);

/** 10:05 of a moment. */
export const time = (moment) => moment.slice(11, 16);

/** «21.03 в 10:05» */
export const moment = (text) => `${shortDay(text)} в ${time(text)}`;

/** «21.03.2025 в 10:05:12» */
export const fullMoment = (text) => `${day(text)} в ${text.slice(11, 19)}`;

/** Иванов Иван Иванович as Иванов И. И. */
export function shortName(name) {
  const [last, ...others] = name.split(/\s+/);
  return [last, ...others.map((other) => `${other[0]}.`)].join(' ');
}

/** A person of a mark, by the name where it is known. */
export const nameOf = (person) => person.name ?? `№ ${person.number}`;

/** The pair that runs at HH:MM, and the next one, as numbers from 1; 0 is none. */
export function slotsAt(clock) {
  const running = SLOTS.findIndex(([begin, end]) => begin <= clock && clock <= end) + 1;
  const next = SLOTS.findIndex(([begin]) => begin > clock) + 1;
  return { running, next };
}

/** 412 МБ */
export function bytes(count) {
  const units = ['Б', 'КБ', 'МБ', 'ГБ', 'ТБ'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${DECIMAL.format(count / 1000 ** power)} ${units[power]}`;
}

/** A duration in seconds as «1 ч 02 мин». */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 24) {
    return `${Math.floor(hours / 24)} д ${hours % 24} ч`;
  }
  return hours > 0 ? `${hours} ч ${minutes} мин` : `${minutes} мин ${whole % 60} с`;
}
