// Builds elements. Data becomes text nodes and attributes, never markup, so that no name in the
// data can be read as HTML.

/**
 * An element: attributes by name, `on…` as listeners, `class` and `data-…` as they are; `null`,
 * `undefined` and `false` are left out. Children are nodes, texts, or lists of them.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else {
      set(element, name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an attribute, or takes it away; writes nothing where nothing changes. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value === true ? '' : value);
  }
}

/** Sets a text; says whether it is another one than before. */
export function setText(element, text) {
  const changes = element.textContent !== String(text);
  if (changes) {
    element.textContent = text;
  }
  return changes;
}

/** Lets an element flash gently, to show that what it says has changed. */
export function flash(element) {
  element.classList.remove('flash');
  // Reading a size makes the browser notice that the class was gone, so the animation starts anew.
  void element.offsetWidth;
  element.classList.add('flash');
}

export const byId = (id) => document.getElementById(id);

/** Text for screen readers alone. */
export const hidden = (text) => h('span', { class: 'visually-hidden' }, text);

/** Puts a floating element below another one, or above where there is more room. */
export function placeBelow(floating, anchor) {
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = floating;
  const { clientWidth, clientHeight } = document.documentElement;
  const isBelow = at.bottom + 6 + height <= clientHeight;
  const left = Math.min(at.left, clientWidth - width - 12);
  floating.style.left = `${Math.max(8, left)}px`;
  floating.style.top = `${isBelow ? at.bottom + 6 : Math.max(8, at.top - height - 6)}px`;
}

/** Puts a floating element to the right of another one, or to the left where there is more room. */
export function placeAside(floating, anchor) {
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = floating;
  const { clientWidth, clientHeight } = document.documentElement;
  const isRight = at.right + 8 + width <= clientWidth - 8;
  floating.style.left = `${isRight ? at.right + 8 : Math.max(8, at.left - width - 8)}px`;
  floating.style.top = `${Math.max(8, Math.min(at.top, clientHeight - height - 8))}px`;
}
