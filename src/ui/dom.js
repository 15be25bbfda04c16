// SPDX-License-Identifier: LGPL-2.1-or-later

// Elements, made of text: nothing that a daemon sent is ever taken for HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// An element with attributes, of which those named "on…" are listeners, and children: elements or text.
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A list of terms and what they say; entries without a value are left out.
export function definitions(entries) {
  const list = h('dl');
  for (const [term, value] of entries)
    if (value !== null && value !== undefined && value !== '') list.append(h('dt', {}, term), h('dd', {}, value));
  return list;
}

// A table whose rows are told apart by a key. Rows that stay keep their elements, so that the focus, a selection and
// the reader's place stay, too. Each column is {title, cell(row)}, where a cell is text or an element made anew.
export class Table {
  constructor(caption, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.body = h('tbody');
    const titles = columns.map((column) => h('th', { scope: 'col', class: column.class }, column.title));
    this.element = h('table', {}, h('caption', { class: 'visually-hidden' }, caption),
      h('thead', {}, h('tr', {}, ...titles)), this.body);
  }

  // Shows ITEMS, an array of [key, row], in this order.
  show(items) {
    const wanted = new Set(items.map(([key]) => key));
    for (const [key, entry] of this.rows)
      if (!wanted.has(key)) {
        entry.element.remove();
        this.rows.delete(key);
      }
    let place = this.body.firstChild;
    for (const [key, row] of items) {
      const element = this.put(key, row);
      if (element === place) place = place.nextSibling;
      else this.body.insertBefore(element, place);
    }
  }

  has(key) {
    return this.rows.has(key);
  }

  // Shows what has become of a row, if it is there.
  update(key, change) {
    const entry = this.rows.get(key);
    if (entry) this.put(key, { ...entry.row, ...change });
  }

  put(key, row) {
    let entry = this.rows.get(key);
    if (!entry) {
      const cells = this.columns.map((column) => h('td', { 'data-title': column.title, class: column.class }));
      entry = { element: h('tr', {}, ...cells), cells, shown: [] };
      this.rows.set(key, entry);
    }
    entry.row = row;
    this.columns.forEach((column, i) => {
      const content = column.cell(row);
      const mark = content instanceof Node ? content.textContent : content;
      if (entry.shown[i] === mark) return;
      entry.shown[i] = mark;
      entry.cells[i].replaceChildren(content ?? '');
    });
    return entry.element;
  }
}
