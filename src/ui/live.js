// SPDX-License-Identifier: LGPL-2.1-or-later

// The one stream of events of this tab. While it is open, nothing is asked for at intervals: views ask anew when an
// event makes them, and after a loss.

import { getStream } from './api.js';

const TYPES = ['task', 'capacity', 'lease', 'worker', 'member'];
const RETRY_MS = 1000;
const RETRY_MAX_MS = 15000;

// Calls onOpen() whenever the stream is open, onLost() when it is not any more, onEvent(type, data) for each event.
export class Live {
  constructor({ onOpen, onLost, onEvent }) {
    this.handlers = { onOpen, onLost, onEvent };
    this.delay = RETRY_MS;
    this.isOpen = false;
    this.waiting = [];
    this.connect();
  }

  connect() {
    const source = new EventSource('/api/v1/events');
    source.onopen = () => {
      this.isOpen = true;
      this.delay = RETRY_MS;
      this.handlers.onOpen();
      for (const resolve of this.waiting.splice(0)) resolve();
    };
    source.onerror = () => {
      this.isOpen = false;
      this.handlers.onLost();
      // By itself the browser tries again after a connection that broke, and never after an answer that was refused.
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(2 * this.delay, RETRY_MAX_MS);
    };
    for (const type of TYPES)
      source.addEventListener(type, (event) => this.handlers.onEvent(type, JSON.parse(event.data)));
  }

  // Resolves when the stream is open.
  opened() {
    return this.isOpen ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }
}

function parseEvents(text) {
  const events = [];
  for (const block of text.split('\n\n')) {
    const fields = Object.fromEntries(block.split('\n').map((line) => {
      const at = line.indexOf(': ');
      return at > 0 ? [line.slice(0, at), line.slice(at + 2)] : ['', ''];
    }));
    if (fields.event && fields.data) events.push([fields.event, JSON.parse(fields.data)]);
  }
  return events;
}

// The events that the daemon still has, as [type, data], the oldest first. Behind them it says that it is still there.
export async function pastEvents() {
  const controller = new AbortController();
  const reader = await getStream('/api/v1/events', controller.signal, { 'Last-Event-ID': '0' });
  const decoder = new TextDecoder();
  let text = '';
  while (!/(^|\n)(:[^\n]*)\n\n$/.test(text)) {
    const { value, done } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  controller.abort();
  return parseEvents(text);
}
