// The menu of a cell: every mark that the acting person's role may set.

import { retry, shownMark } from './cells.js';
import { byId, h, placeBelow } from './dom.js';
import { MARKS, shortDay, shortName } from './format.js';

const box = h('div', { class: 'menu', popover: 'auto', role: 'dialog' });
box.addEventListener('keydown', onKey);

/** Opens the menu beside a button; `choose` gets the mark, and the certificate's number. */
export function openMenu({ cell, student, lesson }, button, allowed, choose) {
  const number = h('input', {
    type: 'number', id: 'certificate', min: 1, max: 255, inputmode: 'numeric',
  });
  const done = (action) => () => {
    box.hidePopover();
    button.focus();
    action();
  };
  const items = allowed.map((mark) => item(mark, mark === shownMark(cell), () => {
    const certificate = mark === 2 && number.value !== '' ? Number(number.value) : null;
    if (mark !== 2 || number.reportValidity()) {
      done(() => choose(mark, certificate))();
    }
  }));
  if (cell.state === 'failed') {
    items.unshift(h('button', {
      type: 'button', class: 'menu-item', onclick: done(() => retry(cell)),
    }, h('span', { class: 'sign' }, '↻'), 'Повторить'));
  }
  const field = allowed.includes(2) && h('div', { class: 'field' },
    h('label', { for: 'certificate' }, 'Номер справки (к «У», необязательно)'), number);
  const title = `${shortName(student.name)}, занятие ${lesson.ordinal}, ${shortDay(lesson.date)}`;
  box.setAttribute('aria-label', `Отметка: ${title}`);
  box.replaceChildren(h('p', { class: 'menu-title' }, title), ...items, ...(field ? [field] : []));
  byId('main').append(box);
  box.showPopover();
  placeBelow(box, button);
  items[0].focus();
}

function item(mark, isSet, action) {
  return h('button', {
    type: 'button',
    class: 'menu-item',
    'data-set': mark,
    'aria-pressed': isSet ? 'true' : 'false',
    onclick: action,
  }, h('span', { class: 'sign', 'data-mark': mark }, MARKS[mark].sign), MARKS[mark].name,
  h('kbd', {}, mark));
}

function onKey(event) {
  const items = [...box.querySelectorAll('.menu-item')];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && event.target.tagName !== 'INPUT') {
    event.preventDefault();
    items.at((items.indexOf(event.target) + step) % items.length).focus();
  } else if (event.key === 'Enter' && event.target.tagName === 'INPUT') {
    box.querySelector('[data-set="2"]').click();
  } else if (/^[0-5]$/.test(event.key) && event.target.tagName !== 'INPUT') {
    box.querySelector(`[data-set="${event.key}"]`)?.click();
  }
}
