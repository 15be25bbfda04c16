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

  function add(event) {
    empty.hidden = true;
    list.prepend(line(event));
    if (list.childNodes.length > SHOWN_MAX) list.lastChild.remove();
  }

  for (const event of context.shared.events.slice(-SHOWN_MAX)) add(event);
  return { onEvent: () => add(context.shared.events.at(-1)) };
}
