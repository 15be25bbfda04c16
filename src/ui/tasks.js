// SPDX-License-Identifier: LGPL-2.1-or-later

// The lists of tasks: what runs, waits and has ended lately, or a page of all that match.

import { ApiError, get, getTasks, taskPath } from './api.js';
import { h, setText, Table } from './dom.js';
import { commandText, isLive, labelsText, resourcesText, spanText, stateElement, taskLink, timeText } from './format.js';
import { Refresh } from './refresh.js';

const PAGE = 100;
const ENDED_LOOKUPS = 5;

const CHOICES = [
  ['', 'now: running, waiting, ended lately'],
  ['all', 'all'],
  ['queued', 'waiting'],
  ['running', 'running'],
  ['completed', 'completed'],
  ['errored', 'errored'],
  ['killed', 'killed'],
];

function columns(isQueue) {
  const all = [
    { title: 'Task', cell: (task) => taskLink(task.task_id) },
    { title: 'State', cell: (task) => stateElement(task.state, task.result) },
    { title: 'Command', class: 'long', cell: (task) => commandText(task.command) },
    { title: 'Labels', class: 'long', cell: (task) => labelsText(task.labels) },
    { title: 'Wants', cell: (task) => resourcesText(task.resources) },
  ];
  if (isQueue) all.push({ title: 'Worker', cell: (task) => task.worker ?? '' });
  all.push(
    { title: 'Submitted', cell: (task) => timeText(task.submit_time) },
    { title: 'Started', cell: (task) => timeText(task.start_time) },
    { title: 'Took', cell: (task) => spanText(task.start_time, task.stop_time) });
  return all;
}

function rowsOf(tasks) {
  return tasks.map((task) => [task.task_id, task]);
}

function filterForm(query) {
  const state = query.get('state') ?? '';
  const options = CHOICES.map(([value, text]) => h('option', { value, selected: value === state }, text));
  const submit = (event) => {
    event.preventDefault();
    const values = new FormData(event.target);
    const id = values.get('id').trim();
    const next = new URLSearchParams();
    for (const name of ['state', 'label']) if (values.get(name).trim()) next.set(name, values.get(name).trim());
    location.hash = id ? `#/task/${encodeURIComponent(id)}` : `#/tasks?${next}`;
  };
  return h('form', { class: 'filter', role: 'search', onsubmit: submit },
    h('label', {}, 'Show ', h('select', { name: 'state' }, ...options)),
    h('label', {}, 'with labels ', h('input', { name: 'label', value: query.get('label') ?? '', placeholder: 'team=build os=12', spellcheck: 'false' })),
    h('label', {}, 'or the task ', h('input', { name: 'id', placeholder: 'id', spellcheck: 'false' })),
    h('button', {}, 'Show'));
}

function labelsOf(query) {
  return (query.get('label') ?? '').split(/\s+/).filter((label) => label.includes('='));
}

function hasLabels(task, labels) {
  return labels.every((label) => {
    const at = label.indexOf('=');
    return task.labels?.[label.slice(0, at)] === label.slice(at + 1);
  });
}

// A heading with a table below, and what is said when that is empty.
class Section {
  constructor(root, title, isQueue) {
    this.title = title;
    this.heading = h('h2', {}, title);
    this.empty = h('p', { class: 'empty' }, '');
    this.table = new Table(title, columns(isQueue));
    this.more = h('p', {});
    root.append(this.heading, this.empty, h('div', { class: 'table' }, this.table.element), this.more);
  }

  show(tasks, count, moreAddress) {
    setText(this.heading, count === undefined ? this.title : `${this.title} (${count})`);
    setText(this.empty, tasks.length > 0 ? '' : 'none');
    this.table.element.hidden = tasks.length === 0;
    this.table.show(rowsOf(tasks));
    this.more.replaceChildren(moreAddress ? h('a', { href: moreAddress }, 'all of them, page by page') : '');
  }
}

// What runs, waits, and has ended lately.
function openNow(root, query, context) {
  const { shared, isQueue } = context;
  const labels = labelsOf(query);
  const running = new Section(root, 'Running', isQueue);
  const waiting = new Section(root, 'Waiting', isQueue);
  const ended = new Section(root, 'Ended lately', isQueue);
  const known = new Map(); // attempts that were listed, for events that do not bring them along

  async function lookUpEnded(signal) {
    const missing = [...shared.ended.values()].filter((task) => !task.stop_time && !task.isLookedUp);
    for (const task of missing.slice(-ENDED_LOOKUPS)) {
      const attempt = await get(`${taskPath(task.task_id)}?output=none`, signal).catch((error) => {
        if (error instanceof ApiError && error.status === 404) return {}; // forgotten by now
        throw error;
      });
      shared.ended.set(task.task_id, { ...task, ...attempt, isLookedUp: true });
    }
  }

  function showEnded() {
    const tasks = [...shared.ended.values()].reverse();
    ended.show(tasks.filter((task) => hasLabels(task, labels)));
  }

  const refresh = new Refresh(async (signal) => {
    const [live, queued, capacity] = await Promise.all([
      getTasks({ state: 'running', labels, limit: PAGE }, signal),
      getTasks({ state: 'queued', labels, limit: PAGE }, signal),
      get('/api/v1/capacity', signal),
    ]);
    shared.capacity = capacity;
    known.clear();
    for (const task of [...live.tasks, ...queued.tasks]) known.set(task.task_id, task);
    const counts = labels.length === 0 ? capacity.tasks : {};
    const more = (page, state) => {
      const next = new URLSearchParams({ state, ...(query.get('label') ? { label: query.get('label') } : {}) });
      return page.next ? `#/tasks?${next}` : null;
    };
    running.show(live.tasks, counts.running, more(live, 'running'));
    waiting.show(queued.tasks, counts.queued, more(queued, 'queued'));
    showEnded();
    await lookUpEnded(signal);
    showEnded();
  }, context.onRefused);

  // What is known of a task that has ended, beyond its last event, if that is one of those shown.
  function keepKnown(id) {
    const task = shared.ended.get(id);
    if (task) shared.ended.set(id, { ...known.get(id), ...task });
  }

  function onEvents(events) {
    const ofTasks = events.filter(({ type }) => type === 'task');
    if (ofTasks.length === 0) return;
    for (const { data } of ofTasks) {
      for (const section of [running, waiting]) section.table.update(data.task_id, { state: data.state, result: data.result });
      if (!isLive(data.state)) keepKnown(data.task_id);
    }
    showEnded();
    refresh.soon();
  }

  refresh.now();
  return { onEvents, refresh: () => refresh.soon(), close: () => refresh.close() };
}

// One page of those in a state, or of all.
function openPage(root, query, context) {
  const labels = labelsOf(query);
  const state = query.get('state') === 'all' ? undefined : query.get('state');
  const section = new Section(root, 'Tasks, the oldest first', context.isQueue);
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages' });
  root.append(pager);
  let isLast = false;

  function addressOf(after) {
    const next = new URLSearchParams(query);
    next.delete('after');
    if (after) next.set('after', after);
    return `#/tasks?${next}`;
  }

  const refresh = new Refresh(async (signal) => {
    const page = await getTasks({ state, labels, after: query.get('after'), limit: PAGE }, signal);
    isLast = !page.next;
    section.show(page.tasks);
    pager.replaceChildren(
      query.get('after') ? h('a', { href: addressOf() }, 'first page') : h('span', {}, 'first page'), ' ',
      isLast ? h('span', {}, 'this is the last page') : h('a', { href: addressOf(page.next), rel: 'next' }, 'next page'));
  }, context.onRefused);

  function onEvents(events) {
    for (const { type, data } of events) {
      if (type !== 'task') continue;
      const isShown = section.table.has(data.task_id);
      section.table.update(data.task_id, { state: data.state, result: data.result });
      if (isShown || (isLast && (!state || state === data.state))) refresh.soon();
    }
  }

  refresh.now();
  return { onEvents, refresh: () => refresh.soon(), close: () => refresh.close() };
}

export function openTasks(root, address, context) {
  root.append(h('h1', { tabindex: -1 }, 'Tasks'), filterForm(address.query));
  return address.query.get('state') ? openPage(root, address.query, context) : openNow(root, address.query, context);
}
