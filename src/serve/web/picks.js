// A filter of several values: a searchable list of boxes to tick, and a chip for each one chosen.

import { byId, h, setText } from './dom.js';

const SHOWN = 200;

/** A filter in `#picks`, with its chips in `#chips`. */
export class Pick {
  #title;
  #onChange;
  #offered = [];
  #label = h('span', {});
  #list = h('ul', { class: 'pick-list' });
  #words;
  #box;

  /** `chosen` is a set of texts; `onChange` runs when it is another one. */
  constructor(name, title, chosen, onChange) {
    this.name = name;
    this.chosen = chosen;
    this.#title = title;
    this.#onChange = onChange;
    this.#words = h('input', {
      type: 'search', 'aria-label': `${title}: поиск`, placeholder: 'Поиск', autocomplete: 'off',
    });
    this.#box = h('details', { class: 'pick', 'data-filter': name },
      h('summary', {}, this.#label),
      h('div', { class: 'pick-panel' }, this.#words, this.#list));
    byId('picks').append(this.#box);
    this.#listen();
    this.#showChosen();
  }

  /** Takes the values that may be chosen. */
  offer(values) {
    const texts = values.map(String);
    if (texts.join('\n') !== this.#offered.join('\n')) {
      this.#offered = texts;
      this.#showList();
    }
  }

  /** Takes back every choice. */
  clear() {
    this.chosen.clear();
    this.#showChosen();
    this.#showList();
  }

  #listen() {
    const [box, words] = [this.#box, this.#words];
    words.addEventListener('input', () => this.#showList());
    // Enter in the search must not send the form.
    words.addEventListener('keydown', (event) => event.key === 'Enter' && event.preventDefault());
    box.addEventListener('toggle', () => {
      if (box.open) {
        words.value = '';
        this.#showList();
        words.focus();
      }
    });
    box.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        box.open = false;
        box.querySelector('summary').focus();
      }
    });
    document.addEventListener('pointerdown', (event) => {
      if (!box.contains(event.target)) {
        box.open = false;
      }
    });
  }

  #showList() {
    if (!this.#box.open) {
      return;
    }
    const text = this.#words.value.trim().toLowerCase();
    const found = [...new Set([...this.chosen, ...this.#offered])]
      .filter((value) => value.toLowerCase().includes(text));
    const rest = found.length - SHOWN;
    this.#list.replaceChildren(...found.slice(0, SHOWN).map((value) => this.#choice(value)));
    if (found.length === 0 || rest > 0) {
      const note = rest > 0 ? `…и ещё ${rest}: уточните поиск` : 'Ничего не нашлось';
      this.#list.append(h('li', { class: 'muted' }, note));
    }
  }

  #choice(value) {
    const input = h('input', { type: 'checkbox', value });
    input.checked = this.chosen.has(value);
    input.addEventListener('change', () => this.#toggle(value, input.checked));
    return h('li', {}, h('label', {}, input, h('span', {}, value)));
  }

  #toggle(value, isChosen) {
    this.chosen[isChosen ? 'add' : 'delete'](value);
    this.#showChosen();
    this.#onChange();
  }

  #showChosen() {
    const count = this.chosen.size;
    setText(this.#label, `${this.#title}: ${count === 0 ? 'все' : count}`);
    const chips = byId('chips');
    chips.querySelectorAll(`[data-filter="${this.name}"]`).forEach((chip) => chip.remove());
    chips.append(...[...this.chosen].map((value) => this.#chip(value)));
    chips.hidden = chips.children.length === 0;
  }

  #chip(value) {
    const button = h('button', {
      type: 'button', class: 'chip', 'aria-label': `Убрать: ${this.#title} ${value}`,
    }, value, h('span', { 'aria-hidden': 'true' }, '×'));
    button.addEventListener('click', () => this.#toggle(value, false));
    return h('li', { 'data-filter': this.name }, button);
  }
}
