// SPDX-License-Identifier: LGPL-2.1-or-later

// How values are written for people.

import { h } from './dom.js';

const STATES = {
  queued: ['◌', 'waiting'],
  running: ['▶', 'running'],
  completed: ['✓', 'completed'],
  errored: ['✗', 'errored'],
  killed: ['■', 'killed'],
};

export function isLive(state) {
  return state === 'queued' || state === 'running';
}

// A state by sign and word; the colour only comes on top.
export function stateElement(state, result) {
  const [sign, word] = STATES[state] ?? ['?', String(state)];
  const reason = result && result !== 'success' ? `: ${result}` : '';
  return h('span', { class: `state ${STATES[state] ? state : ''}` }, h('span', { 'aria-hidden': 'true' }, `${sign} `),
    `${word}${reason}`);
}

export function taskLink(id) {
  return h('a', { href: `#/task/${encodeURIComponent(id)}` }, id);
}

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

// A command as a shell would take it.
export function commandText(command) {
  return (command ?? []).map((word) => (PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

export function labelsText(labels) {
  return Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).join(' ');
}

export function numberText(value) {
  return Number.isFinite(value) ? String(Math.round(value * 100) / 100) : '–';
}

function unitText(name, value) {
  if (name === 'memory_mb') return 'MB';
  return name === 'cores' && value === 1 ? 'core' : name;
}

export function resourcesText(resources) {
  return Object.entries(resources ?? {}).map(([name, value]) => `${numberText(value)} ${unitText(name, value)}`).join(', ');
}

export function bytesText(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

export function secondsText(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// How long something took that has begun and ended, both as the daemon tells it.
export function spanText(start, stop) {
  return start && stop ? secondsText((Date.parse(stop) - Date.parse(start)) / 1000) : '';
}

// The time of the day here, with the date where that is another one.
export function timeText(time) {
  if (!time) return '';
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? date.toLocaleTimeString() : date.toLocaleString();
}
