// SPDX-License-Identifier: LGPL-2.1-or-later

// What happens, as it happens; the newest first.

import { h } from './dom.js';
import { resourcesText, stateElement, taskLink } from './format.js';

const SHOWN_MAX = 200;

function describe(type, data) {
  switch (type) {
    case 'task':
      return [taskLink(data.task_id), ' ', stateElement(data.state, data.result), data.worker ? ` at ${data.worker}` : ''];
    case 'capacity':
      return [`free: ${resourcesText(data.free)}; ${data.tasks?.running ?? 0} running, ${data.tasks?.queued ?? 0} waiting`];
    case 'lease':
      return [data.lease ? `leased to ${data.lease.queue}` : 'leased to nobody'];
    default:
      return [JSON.stringify(data)];
  }
}

function line({ time, type, data }) {
  return h('li', { class: type }, h('time', {}, time ? time.toLocaleTimeString() : 'earlier'), ' ', h('b', {}, type), ' ',
    ...describe(type, data));
}

export function openEvents(root, address, context) {
  const list = h('ol', { class: 'events', reversed: true });
  const empty = h('p', { class: 'empty' }, 'Nothing has happened yet.');
  root.append(h('h1', { tabindex: -1 }, 'Events'), empty, list);

  function add(n) {
    const events = context.shared.events.slice(-Math.min(n, SHOWN_MAX));
    list.prepend(...events.reverse().map(line));
    while (list.childNodes.length > SHOWN_MAX) list.lastChild.remove();
    empty.hidden = list.childNodes.length > 0;
  }

  add(SHOWN_MAX);
  return { onEvents: (events) => add(events.length) };
}
