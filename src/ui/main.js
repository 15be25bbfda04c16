// SPDX-License-Identifier: LGPL-2.1-or-later

// Where the page begins: a session, the stream of events, and the view that the address names.

import { ApiError, beginSession, get } from './api.js';
import { h, setText } from './dom.js';
import { isLive } from './format.js';
import { Live, pastEvents } from './live.js';
import { openCapacity } from './capacity.js';
import { openEvents } from './events.js';
import { openTask } from './task.js';
import { openTasks } from './tasks.js';
import { openWorkers } from './workers.js';

const VIEWS = { tasks: openTasks, task: openTask, capacity: openCapacity, workers: openWorkers, events: openEvents };
const EVENTS_MAX = 500;
const ENDED_MAX = 50;
const BATCH_MS = 100;

const content = document.getElementById('content');
const connection = document.getElementById('connection');
const problem = document.getElementById('problem');

// What all views know.
const shared = {
  live: null,
  isQueue: false,
  capacity: null, // as last heard
  events: [], // {time, type, data}, the newest last
  ended: new Map(), // tasks that ended lately, by id, the newest last
};
let view = null;

function showConnection(state, text) {
  document.body.dataset.connection = state;
  setText(connection, text);
}

function note(type, data, time) {
  shared.events.push({ time, type, data });
  if (shared.events.length > EVENTS_MAX) shared.events.shift();
  if (type === 'capacity') shared.capacity = { ...shared.capacity, ...data };
  if (type !== 'task') return;
  shared.ended.delete(data.task_id);
  if (!isLive(data.state)) shared.ended.set(data.task_id, { ...data.attempt, ...data });
  if (shared.ended.size > ENDED_MAX) shared.ended.delete(shared.ended.keys().next().value);
}

// A view is told of many events at once: thousands may come in a second, and people see ten changes in it at most.
let batch = [];

function onEvent(type, data) {
  note(type, data, new Date());
  if (batch.length === 0) setTimeout(tellView, BATCH_MS);
  batch.push({ type, data });
}

function tellView() {
  if (batch.length === 0) return; // told before its time, to a view that was left
  const events = batch;
  batch = [];
  view?.onEvents?.(events);
}

// What the daemon has to say against a request, or null when the last one was answered. A connection that broke is told
// by the stream of events.
function showRefusal(error) {
  const refusal = error instanceof ApiError ? error : null;
  if (refusal?.status === 401) {
    view?.close?.();
    view = null;
    content.replaceChildren(
      h('h1', { tabindex: -1 }, 'A session is needed'),
      h('p', {}, 'This daemon asks for a token, or the session that this browser had is over.'),
      h('p', {}, 'Run ', h('code', {}, 'daggyctl ui'), ' where you have the token, and open the address that it prints.'),
      h('p', { class: 'problem' }, refusal.message));
    showConnection('refused', 'no session');
  } else setText(problem, refusal?.message ?? '');
}

// "#/task/ID?name=value" as its parts.
function parseAddress() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  return { name: VIEWS[name] ? name : 'tasks', id: decodeURIComponent(rest.join('/')), query: new URLSearchParams(query) };
}

function markLinks(name) {
  for (const link of document.querySelectorAll('nav a')) {
    const isHere = link.getAttribute('href') === `#/${name === 'task' ? 'tasks' : name}`;
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

// Shows the view that the address names, with the focus on its heading where somebody has gone there.
function showView(moved) {
  const address = parseAddress();
  tellView();
  view?.close?.();
  setText(problem, '');
  content.replaceChildren();
  markLinks(address.name);
  view = VIEWS[address.name](content, address, { ...shared, shared, onRefused: showRefusal });
  if (moved) content.querySelector('h1')?.focus();
}

async function learnWhoThisIs() {
  const capacity = await get('/api/v1/capacity');
  shared.capacity = capacity;
  shared.isQueue = 'workers' in capacity;
  const name = shared.isQueue ? `daggyd at ${location.host}` : `daggyr on ${capacity.facts?.hostname ?? ''}`;
  setText(document.getElementById('host'), name);
  document.title = name;
  document.querySelector('nav a[href="#/workers"]').hidden = !shared.isQueue;
}

async function learnThePast() {
  for (const [type, data] of await pastEvents()) if (type === 'task') note(type, data, null);
}

// Every view asks anew behind a loss: what happened meanwhile may be more than the daemon keeps events of.
function onOpen() {
  const before = document.body.dataset.connection;
  showConnection('live', before === 'lost' ? 'live again' : 'live');
  if (before === 'refused') showView(false);
  else view?.refresh?.();
}

async function onLost() {
  if (document.body.dataset.connection === 'refused') return;
  showConnection('lost', 'connection lost, trying again …');
  const error = await get('/api/v1/capacity').then(() => null, (it) => it);
  if (error instanceof ApiError && error.status === 401) showRefusal(error);
}

// A code in the address is used up, and does not stay there.
async function takeCode() {
  const code = new URLSearchParams(location.hash.slice(1)).get('code');
  if (!code) return;
  history.replaceState(null, '', '#/tasks');
  await beginSession(code);
}

async function begin() {
  let refusal = null;
  await takeCode().catch((error) => { refusal = error; });
  try {
    await learnWhoThisIs();
    await learnThePast();
  } catch (error) {
    showRefusal(refusal && error instanceof ApiError ? new ApiError(error.status, refusal.message) : error);
    if (error instanceof ApiError) return;
    showConnection('lost', 'connection lost, trying again …');
    setTimeout(begin, 2000);
    return;
  }
  shared.live = new Live({ onOpen, onLost, onEvent });
  showView(false);
}

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault(); // the address says which view this is
  content.focus();
});
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#code=')) location.reload();
  else if (shared.live) showView(true);
});
begin();
