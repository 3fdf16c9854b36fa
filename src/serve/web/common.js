// What every page needs of the server: calls and their problems, who acts, the stream of changes,
// and messages to the person.

import { byId, h, setText } from './dom.js';
import { percent } from './format.js';

const PERSON = 'tributary-person';
// The server says something every 10 s.
const SILENCE_MS = 25_000;

/** What GET /v1/session said last. */
export let session = null;

/** A call that was answered by a problem (`status`), or not at all (`status` 0). */
export class Problem extends Error {
  constructor(status, detail, { retryAfter = null, rule = null } = {}) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
    this.rule = rule;
  }

  /** Whether the server may yet have done, or may later do, what was asked. */
  get isOpen() {
    return [0, 401, 429].includes(this.status) || this.status >= 500;
  }
}

/** Asks the server; gives the JSON of the answer, or throws a Problem. */
export async function api(path, options = {}) {
  const { method = 'GET', body, signal, person = actingPerson() } = options;
  const headers = { Accept: 'application/json, application/problem+json' };
  if (person && session?.mode !== 'login') {
    headers['Tributary-Person'] = `${person.kind}:${person.number}`;
  }
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
  }
  let answer;
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const timeout = signal ?? AbortSignal.timeout(20_000);
    answer = await fetch(path, { method, headers, body: text, signal: timeout, cache: 'no-store' });
    const isJson = answer.headers.get('Content-Type')?.includes('json');
    if (!isJson && (answer.ok || answer.redirected)) {
      // A proxy shows its login in the place of what was asked for.
      throw new Problem(401, 'Вход истёк. Обновите страницу, чтобы войти снова.');
    }
    return answer.ok ? await answer.json() : await refuse(answer);
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(0, 'Сервер не отвечает.');
  }
}

async function refuse(answer) {
  const problem = await answer.json().catch(() => ({}));
  const detail = problem.detail ?? problem.title ?? `Сервер ответил: ${answer.status}.`;
  const retryAfter = Number(answer.headers.get('Retry-After')) || null;
  throw new Problem(answer.status, detail, { retryAfter, rule: problem.rule });
}

/** A query string of what is there; lists repeat their name. */
export function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== '') {
        parameters.append(name, one);
      }
    }
  }
  const text = parameters.toString();
  return text ? `?${text}` : '';
}

/** Keeps what is chosen in the address, so that it can be linked to. */
export function remember(values, { push = false } = {}) {
  const address = location.pathname + query(values);
  if (address !== location.pathname + location.search) {
    history[push ? 'pushState' : 'replaceState'](null, '', address);
  }
}

/** Who acts: `{role, kind, number, name}`; of this tab alone in the demo. */
export function actingPerson() {
  if (session?.mode === 'login') {
    return session.person && { role: session.person.kind, ...session.person };
  }
  return JSON.parse(sessionStorage.getItem(PERSON) ?? 'null');
}

/** Lets somebody else act from now on. */
export function actAs(person) {
  sessionStorage.setItem(PERSON, JSON.stringify(person));
  document.dispatchEvent(new Event('person'));
}

/** Shows a message, and lets screen readers say it. */
export function toast(text, kind = 'info') {
  const box = byId('toasts');
  const close = h('button', { type: 'button', class: 'toast-close', 'aria-label': 'Закрыть' }, '×');
  const message = h('div', { class: `toast ${kind}` }, h('span', {}, text), close);
  close.addEventListener('click', () => message.remove());
  box.append(message);
  while (box.children.length > 3) {
    box.firstElementChild.remove();
  }
  setTimeout(() => message.remove(), kind === 'error' ? 12_000 : 6000);
}

/** The same work at most once at a time: asked for while it runs, it runs once more after that. */
export function singleFlight(work) {
  let isRunning = false;
  let isAsked = false;
  return async function run() {
    isAsked = true;
    if (isRunning) {
      return;
    }
    isRunning = true;
    try {
      while (isAsked) {
        isAsked = false;
        await work().catch((error) => report(error, run));
      }
    } finally {
      isRunning = false;
    }
  };
}

/** What is asked again once the server is there, and ready, is no news; other problems are. */
function report(error, again) {
  if (!(error instanceof Problem)) {
    throw error;
  }
  if (error.status === 0 || error.status === 503) {
    setTimeout(() => ready().then(again), 1000);
  } else {
    toast(error.message, 'error');
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until the server has read its history, and shows how far it is. */
export async function ready() {
  for (;;) {
    const answer = await api('/v1/session').catch((problem) => problem);
    if (!(answer instanceof Problem)) {
      session = answer;
      document.dispatchEvent(new Event('session'));
    }
    showProgress(answer);
    if (answer?.ready) {
      return;
    }
    await pause(500);
  }
}

function showProgress(answer) {
  const banner = byId('banner');
  banner.hidden = answer.ready === true;
  if (banner.hidden) {
    return;
  }
  if (answer instanceof Problem) {
    const isLogin = answer.status === 401;
    banner.replaceChildren(isLogin
      ? h('p', {}, `${answer.message} `, h('a', { href: location.href }, 'Обновить страницу'))
      : h('p', {}, 'Сервер не отвечает. Пробуем снова…'));
    return;
  }
  let bar = banner.querySelector('progress');
  if (!bar) {
    bar = h('progress', { max: 1, 'aria-labelledby': 'banner-text' });
    banner.replaceChildren(h('p', { id: 'banner-text' }), bar);
  }
  bar.value = answer.share;
  setText(byId('banner-text'), `Сервер читает историю: ${percent(answer.share, 1)}`);
}

/**
 * Follows the stream of changes. `handlers.load` runs when the stream opens, also anew after a
 * break: then changes may have been missed. `hello`, `confirmed`, `epoch`, `people` and `clock` get
 * what was said. `path` says what is asked for; `reopen` of the answer asks anew.
 */
export function follow(handlers, path = () => '/v1/changes') {
  const stream = { source: null, timer: null, watch: null, wait: 500 };
  const named = ['hello', 'confirmed', 'epoch', 'people', 'clock', 'alive'];

  function open() {
    close();
    stream.source = new EventSource(path());
    listenOn();
    stream.source.addEventListener('error', reopen);
    for (const name of named) {
      stream.source.addEventListener(name, (event) => take(name, JSON.parse(event.data)));
    }
  }

  // A connection that broke without a word says nothing either.
  function listenOn() {
    clearTimeout(stream.watch);
    stream.watch = setTimeout(reopen, SILENCE_MS);
  }

  function close() {
    clearTimeout(stream.timer);
    clearTimeout(stream.watch);
    stream.source?.close();
  }

  // An EventSource gives up for good on an answer such as 503, so breaks are mended here.
  function reopen() {
    close();
    showLink(false);
    stream.timer = setTimeout(open, stream.wait);
    stream.wait = Math.min(stream.wait * 2, 8000);
  }

  function take(name, data) {
    listenOn();
    if (data.now) {
      document.dispatchEvent(new CustomEvent('now', { detail: data.now }));
    }
    if (name === 'hello') {
      stream.wait = 500;
      showLink(true);
      handlers.hello?.(data);
      handlers.load();
      return;
    }
    handlers[name]?.(data);
  }

  // Browsers open six connections to a server; tabs that nobody sees hold none.
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  if (!document.hidden) {
    open();
  }
  // Without the stream a page still shows what stands.
  setTimeout(() => byId('link').dataset.state !== 'up' && handlers.load(), 1500);
  return { reopen: () => document.hidden || open() };
}

function showLink(isUp) {
  const link = byId('link');
  link.dataset.state = isUp ? 'up' : 'down';
  setText(link.querySelector('.link-text'), isUp ? 'на связи' : 'нет связи');
}
