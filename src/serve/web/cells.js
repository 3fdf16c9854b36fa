// The cells of journals: what stands in each, and the clicks that are under way.
//
// A click has an ID made here. Where its answer does not come, the same click is sent again with
// the same ID: the server takes it once only, so a mark is neither lost nor set twice.

import { actingPerson, api, toast } from './common.js';

const ANSWER_WITHIN_MS = 10_000;
const REFUSED_FOR_MS = 5000;
// The rule that looks at the mark in the cell.
const STANDING_RULE = 6;
const cells = new Map();
const keyOf = ({ journal, student, lesson }) => `${journal}/${student}/${lesson}`;
let paint = () => {};

/** Sets what shows a cell whenever it changes: called with the cell, and whether others did it. */
export function onChange(painter) {
  paint = painter;
}

let refused = () => {};

/** Sets what is done once a click was refused by what stands in its cell. */
export function onRefusal(look) {
  refused = look;
}

/** The cell of a student at a lesson; an empty one where nothing is known. */
export function cellAt(journal, student, lesson) {
  const key = keyOf({ journal, student, lesson });
  if (!cells.has(key)) {
    cells.set(key, {
      journal, student, lesson, standing: null, state: null, click: null, queued: null, detail: '',
    });
  }
  return cells.get(key);
}

/** Forgets all cells but those whose clicks are not confirmed: these can still be sent again. */
export function forget() {
  for (const [key, cell] of cells) {
    if (cell.click === null) {
      cells.delete(key);
    }
  }
}

/** The cells whose clicks were sent and not confirmed. */
export const unconfirmed = () => [...cells.values()].filter((cell) => cell.state === 'failed');

/** Whether any click still waits for its answer or for being sent again. */
export const isAnyOpen = () => [...cells.values()].some((cell) => cell.click !== null);

/** The mark to show: the one that was clicked while it is under way, else the one that stands. */
export function shownMark(cell) {
  return cell.click?.body.ATTENDANCE_MARK ?? cell.standing?.mark ?? null;
}

/** The state to show; `null` for a cell in which nothing stands. */
export const shownState = (cell) => cell.state ?? (cell.standing ? 'confirmed' : null);

/** Takes the mark that stands in a cell, or `null`, as a whole journal says it. */
export function takeStanding(cell, standing) {
  cell.standing = standing;
  settle(cell, standing);
  paint(cell, false);
}

/** Takes a mark that the stream of changes tells. */
export function takeChange(cell, standing) {
  // An earlier mark may be told after the answer to a later click.
  if (cell.standing && standing.when < cell.standing.when) {
    return;
  }
  const isNews = cell.standing?.id !== standing.id || cell.standing?.mark !== standing.mark;
  const isOwn = settle(cell, standing);
  cell.standing = standing;
  paint(cell, isNews && !isOwn);
}

/** A click whose mark stands has been confirmed, whether or not its answer came. */
function settle(cell, standing) {
  const isOwn = cell.click !== null && cell.click.body.ID === standing?.id;
  if (isOwn) {
    cell.click = null;
    cell.state = null;
  }
  return isOwn;
}

/** Sets a mark: sends a click, or keeps it until the one before it is answered. */
export function setMark(cell, date, mark, certificate = null) {
  if (cell.state === 'pending') {
    cell.queued = { date, mark, certificate };
    return;
  }
  const body = {
    ID: newId(),
    JOURNAL_ID: cell.journal,
    STUDENT_ID: cell.student,
    LESSON_ID: cell.lesson,
    ATTENDANCE_MARK: mark,
    LESSON_DATE: date,
  };
  if (certificate !== null) {
    body.NUMBER_CERT = certificate;
  }
  cell.click = { body, person: actingPerson() };
  send(cell);
}

/** Sends a click that was not confirmed once more, as the person who made it. */
export async function retry(cell) {
  if (cell.state === 'failed') {
    await send(cell);
  }
}

async function send(cell) {
  const { click } = cell;
  cell.state = 'pending';
  cell.detail = '';
  paint(cell, false);
  try {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const options = { method: 'POST', body: click.body, person: click.person, signal };
    accept(cell, click, (await api('/v1/clicks', options)).cell);
  } catch (problem) {
    // The stream may have confirmed it meanwhile.
    if (cell.click === click) {
      (problem.isOpen ? fail : refuse)(cell, problem);
    } else {
      sendQueued(cell);
    }
  }
}

function accept(cell, click, standing) {
  // A later mark of somebody else may have been told before the answer came.
  if (!cell.standing || standing.when >= cell.standing.when) {
    cell.standing = standing;
  }
  if (cell.click === click) {
    cell.click = null;
    cell.state = null;
  }
  paint(cell, false);
  sendQueued(cell);
}

function sendQueued(cell) {
  if (cell.queued) {
    const { date, mark, certificate } = cell.queued;
    cell.queued = null;
    setMark(cell, date, mark, certificate);
  }
}

function fail(cell, problem) {
  const later = problem.retryAfter ? ` Повторите через ${problem.retryAfter} с.` : '';
  cell.state = 'failed';
  cell.detail = problem.message + later;
  cell.queued = null;
  paint(cell, false);
}

function refuse(cell, problem) {
  cell.state = 'refused';
  cell.detail = problem.message;
  cell.click = null;
  cell.queued = null;
  paint(cell, false);
  toast(problem.message, 'error');
  if (problem.rule === STANDING_RULE) {
    refused();
  }
  setTimeout(() => {
    const isThere = cells.get(keyOf(cell)) === cell;
    if (cell.state === 'refused' && isThere) {
      cell.state = null;
      cell.detail = '';
      paint(cell, false);
    }
  }, REFUSED_FOR_MS);
}

/** A random UUID; browsers make one by themselves only on pages that came by HTTPS or localhost. */
function newId() {
  if (crypto.randomUUID) {
    return crypto.randomUUID();
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
