// SPDX-License-Identifier: LGPL-2.1-or-later

// The runners of a queue, who else uses them, and on how many hosts the queue itself is.

import { ApiError, get } from './api.js';
import { bar } from './chart.js';
import { h, Table } from './dom.js';
import { timeText } from './format.js';
import { Refresh } from './refresh.js';

const SIGNS = { alive: '✓', silent: '?', draining: '◌', leased: '⊘', disabled: '■', gone: '✗' };

function stateCell(state) {
  return h('span', { class: `state worker-${state}` }, h('span', { 'aria-hidden': 'true' }, `${SIGNS[state] ?? '·'} `), state);
}

function leaseText(worker) {
  if (!worker.lease) return 'nobody';
  return worker.lease.own ? 'this queue' : worker.lease.queue;
}

function load(worker, name) {
  const { total = {}, free = {} } = worker.capacity ?? {};
  return worker.capacity ? bar('', { used: (total[name] ?? 0) - (free[name] ?? 0), total: total[name] ?? 0 }) : '–';
}

const WORKERS = [
  { title: 'Worker', cell: (it) => it.id },
  { title: 'State', cell: (it) => stateCell(it.state) },
  { title: 'In the share', cell: (it) => (it.permitted ? 'yes' : 'no') },
  { title: 'Leased to', cell: leaseText },
  { title: 'Running', cell: (it) => String(it.running) },
  { title: 'Cores', cell: (it) => load(it, 'cores') },
  { title: 'Memory (MB)', cell: (it) => load(it, 'memory_mb') },
  { title: 'From', cell: (it) => (it.leaving ? `${it.source}, leaving` : it.source ?? '') },
  { title: 'Address', class: 'long', cell: (it) => it.url },
];

const QUEUES = [
  { title: 'Queue', cell: (it) => it.address },
  { title: 'Version', cell: (it) => it.version ?? '' },
  { title: 'Its workers', class: 'long', cell: (it) => (it.workers ?? []).join(', ') },
  { title: 'Its share', class: 'long', cell: (it) => (it.share ?? []).join(', ') },
];

const MEMBERS = [
  { title: 'Member', cell: (it) => `${it.id}${it.self ? ' (this one)' : ''}` },
  { title: 'State', cell: (it) => stateCell(it.state) },
  { title: 'Leads', cell: (it) => (it.leading ? 'yes' : 'no') },
  { title: 'Address', cell: (it) => it.address ?? '' },
  { title: 'Version', cell: (it) => it.version ?? '' },
  { title: 'Counts until', cell: (it) => timeText(it.expires) },
];

// null for what this daemon has not.
function getIfThere(path, signal) {
  return get(path, signal).catch((error) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
}

class Part {
  constructor(root, title, columns) {
    this.table = new Table(title, columns);
    this.element = h('section', { hidden: true }, h('h2', {}, title), h('div', { class: 'table' }, this.table.element));
    root.append(this.element);
  }

  show(rows, keyName) {
    this.element.hidden = !rows?.length;
    this.table.show((rows ?? []).map((row) => [row[keyName], row]));
  }
}

export function openWorkers(root, address, context) {
  const empty = h('p', { class: 'empty' });
  root.append(h('h1', { tabindex: -1 }, 'Workers'), empty);
  const workers = new Part(root, 'Runners', WORKERS);
  const queues = new Part(root, 'Queues that share them', QUEUES);
  const members = new Part(root, 'Members of this queue', MEMBERS);
  let hasMembers = true;

  const refresh = new Refresh(async (signal) => {
    const [list, sharing, own] = await Promise.all([
      get('/api/v1/workers', signal),
      get('/api/v1/queues', signal),
      hasMembers ? getIfThere('/api/v1/members', signal) : null,
    ]);
    hasMembers = own !== null;
    empty.textContent = list.length > 0 ? '' : 'none';
    workers.show(list, 'id');
    queues.show(sharing.queues, 'address');
    members.show(own, 'id');
  }, context.onRefused);

  refresh.now();
  return { onEvents: () => refresh.soon(), refresh: () => refresh.soon(), close: () => refresh.close() };
}
