// SPDX-License-Identifier: LGPL-2.1-or-later

// One task: what it is, how it does or did, why it waits, and what it writes.

import { ApiError, get, taskPath } from './api.js';
import { definitions, h, Table } from './dom.js';
import { bytesText, commandText, labelsText, numberText, resourcesText, secondsText, spanText, stateElement, timeText }
  from './format.js';
import { Output } from './output.js';
import { Refresh } from './refresh.js';

function usageText(attempt) {
  const { usage } = attempt;
  if (!usage || !attempt.start_time) return '';
  return `${secondsText(usage.cpu_time)} of CPU time, ${bytesText(usage.memory_peak)} at most, `
    + `${usage.tasks_peak} processes at a time, ${bytesText(usage.io_read_bytes)} read, `
    + `${bytesText(usage.io_write_bytes)} written`;
}

function exitText(attempt) {
  if (attempt.signal) return `by ${attempt.signal}`;
  return attempt.exit_code === null || attempt.exit_code === undefined ? '' : `with status ${attempt.exit_code}`;
}

function devicesText(devices) {
  return Object.entries(devices ?? {}).map(([name, items]) => `${name} ${items.join(', ')}`).join('; ');
}

function describe(attempt) {
  return definitions([
    ['State', stateElement(attempt.state, attempt.result)],
    ['Command', h('code', {}, commandText(attempt.command))],
    ['Wants', resourcesText(attempt.resources)],
    ['Labels', labelsText(attempt.labels)],
    ['Priority', attempt.priority ? String(attempt.priority) : ''],
    ['Submitted', timeText(attempt.submit_time)],
    ['Started', timeText(attempt.start_time)],
    ['Ended', timeText(attempt.stop_time)],
    ['Exited', exitText(attempt)],
    ['Took', spanText(attempt.start_time, attempt.stop_time)],
    ['Used', usageText(attempt)],
    ['Devices', devicesText(attempt.devices)],
    ['Worker', attempt.worker],
    ['Unit', attempt.unit ? h('code', {}, attempt.unit) : ''],
  ]);
}

// Why a task waits, as far as its resources and the capacity say: for daemons that do not tell themselves.
function guessReasons(attempt, capacity) {
  if (capacity.draining) return ['No tasks are started: the daemon drains.'];
  if (capacity.workers === 0) return ['No worker can be used now.'];
  if (capacity.pressure?.holding) return ['Tasks wait until the memory pressure is lower.'];
  const reasons = [];
  for (const [name, wanted] of Object.entries(attempt.resources ?? {})) {
    const free = capacity.free?.[name] ?? 0;
    if (wanted > free) reasons.push(`It wants ${resourcesText({ [name]: wanted })}, and ${numberText(free)} of `
      + `${numberText(capacity.total?.[name] ?? 0)} are free.`);
  }
  return reasons.length > 0 ? reasons : ['Others are before it.'];
}

function explain(attempt, capacity) {
  const { pending } = attempt;
  if (attempt.state !== 'queued') return [];
  const reasons = pending ? [pending.reason] : guessReasons(attempt, capacity);
  const workers = (pending?.workers ?? []).map((worker) => `${worker.id}: ${worker.reason}`);
  return [h('h2', {}, 'Why it waits'), h('ul', {}, ...[...reasons, ...workers].map((text) => h('li', {}, text)))];
}

function tell(attempt) {
  if (!attempt.executor?.length) return [];
  return [h('h2', {}, 'What was done'), h('ol', {}, ...attempt.executor.map((line) => h('li', {}, line)))];
}

function earlier(attempts) {
  if (!attempts?.length) return [];
  const table = new Table('Earlier attempts', [
    { title: 'Attempt', cell: (it) => it.task_id },
    { title: 'State', cell: (it) => stateElement(it.state, it.result) },
    { title: 'Worker', cell: (it) => it.worker ?? '' },
    { title: 'Ended', cell: (it) => timeText(it.stop_time) },
  ]);
  table.show(attempts.map((it) => [it.task_id, it]));
  return [h('h2', {}, 'Earlier attempts'), h('div', { class: 'table' }, table.element)];
}

export function openTask(root, address, context) {
  const { id } = address;
  const facts = h('div', { class: 'facts' });
  const behind = h('div', {});
  const outputs = h('div', { class: 'outputs' });
  root.append(h('h1', { tabindex: -1 }, id), facts, outputs, behind);
  let shownUnit = null;
  let streams = [];

  function closeStreams() {
    for (const stream of streams) stream.close();
  }

  // Those of another attempt are others.
  function showOutputs(attempt) {
    if (attempt.state === 'queued' || attempt.unit === shownUnit) return;
    closeStreams();
    shownUnit = attempt.unit;
    streams = [
      new Output(attempt, 'stdout', context),
      new Output(attempt, 'stderr', context),
    ];
    outputs.replaceChildren(...streams.map((stream) => stream.element));
  }

  function show(attempt, capacity) {
    facts.replaceChildren(describe(attempt), ...explain(attempt, capacity));
    behind.replaceChildren(...tell(attempt), ...earlier(attempt.attempts));
    showOutputs(attempt);
  }

  let isLoaded = false;
  let isWaiting = false;
  const refresh = new Refresh(async (signal) => {
    const attempt = await get(`${taskPath(id)}?output=none`, signal);
    const capacity = attempt.state === 'queued' ? await get('/api/v1/capacity', signal) : {};
    isLoaded = true;
    isWaiting = attempt.state === 'queued';
    show(attempt, capacity);
  }, (error) => {
    if (!(error instanceof ApiError && error.status === 404)) context.onRefused(error); // or null
    else facts.replaceChildren(h('p', { class: 'problem' }, isLoaded ? 'It is not known any more.' : error.message));
  });

  // While it waits, whatever happens to others may be why.
  function onEvents(events) {
    if (isWaiting || events.some(({ type, data }) => type === 'task' && data.task_id === id)) refresh.soon();
  }

  refresh.now();
  return {
    onEvents,
    refresh: () => refresh.soon(),
    close: () => {
      refresh.close();
      closeStreams();
    },
  };
}
