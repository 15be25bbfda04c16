// SPDX-License-Identifier: LGPL-2.1-or-later

// What there is, what of it is in use, and how that was over the last hour.

import { get } from './api.js';
import { bar, chart } from './chart.js';
import { definitions, h } from './dom.js';
import { numberText } from './format.js';
import { Refresh } from './refresh.js';

const TITLES = { cores: 'Cores', memory_mb: 'Memory (MB)' };

function usage({ total = {}, free = {} }, name) {
  return { used: (total[name] ?? 0) - (free[name] ?? 0), total: total[name] ?? 0 };
}

function warnings(capacity) {
  const texts = [...(capacity.warnings ?? [])];
  if (capacity.draining) texts.unshift('It drains: no more tasks are started.');
  if (capacity.pressure?.holding) texts.unshift('The memory pressure is high: tasks that would start wait.');
  return texts.map((text) => h('p', { class: 'problem' }, text));
}

function facts(capacity) {
  const { facts: it, pressure } = capacity;
  const entries = [['Workers that can be used', capacity.workers?.toString()]];
  if (pressure) entries.push(['Memory pressure', `${numberText(pressure.memory_percent)} % of at most ${pressure.memory_max_percent} %`]);
  if (it)
    entries.push(['Host', it.hostname], ['systemd', it.systemd], ['State', it.system_state], ['Slice', it.slice],
      ['CPUs of the host', String(it.cpus)], ['Memory of the host', `${numberText(it.memory_mb)} MB`]);
  return definitions(entries);
}

// The lines of a chart for the amounts called NAME.
function amountLines(points, name) {
  return [
    { title: 'in use', class: 'used', values: points.map((point) => [point.time, usage(point, name).used]) },
    { title: 'in all', class: 'total', values: points.map((point) => [point.time, usage(point, name).total]) },
  ];
}

function taskLines(points) {
  return [
    { title: 'running', class: 'used', values: points.map((point) => [point.time, point.tasks.running]) },
    { title: 'waiting', class: 'waiting', values: points.map((point) => [point.time, point.tasks.queued]) },
  ];
}

export function openCapacity(root, address, context) {
  const now = h('div', { class: 'now' });
  const course = h('div', { class: 'charts' });
  const host = h('div', { class: 'facts' });
  root.append(h('h1', { tabindex: -1 }, 'Capacity'), now, h('h2', {}, 'The last hour'), course, host);

  const refresh = new Refresh(async (signal) => {
    const [capacity, past] = await Promise.all([get('/api/v1/capacity', signal), get('/api/v1/capacity/history', signal)]);
    context.shared.capacity = capacity;
    const names = Object.keys(capacity.total);
    now.replaceChildren(...warnings(capacity),
      ...names.map((name) => bar(TITLES[name] ?? name, usage(capacity, name))),
      h('p', {}, `${capacity.tasks.running} running, ${capacity.tasks.queued} waiting`));
    const points = past.map((point) => ({ ...point, time: Date.parse(point.time) }));
    course.replaceChildren(
      ...names.map((name) => chart(TITLES[name] ?? name, amountLines(points, name))),
      chart('Tasks', taskLines(points)));
    host.replaceChildren(facts(capacity));
  }, context.onRefused);

  refresh.now();
  return { onEvents: () => refresh.soon(), refresh: () => refresh.soon(), close: () => refresh.close() };
}
