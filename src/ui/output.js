// SPDX-License-Identifier: LGPL-2.1-or-later

// One stream of a task's output, followed as it is written, also over a loss of the connection. Of a long one only the
// end is shown.

import { ApiError, get, getStream, taskPath } from './api.js';
import { h } from './dom.js';

const TAIL_BYTES = 128 * 1024;
const SHOWN_MAX = 512 * 1024; // characters
const PAUSE_MS = 500;

export class Output {
  constructor(attempt, stream, context) {
    const id = attempt.task_id;
    const knownBytes = stream === 'stdout' ? attempt.output_bytes : attempt.error_bytes;
    this.task = taskPath(id);
    this.unit = attempt.unit;
    this.path = `${this.task}/output?stream=${stream}`;
    this.context = context;
    this.controller = new AbortController();
    this.offset = Math.max(0, (knownBytes ?? 0) - TAIL_BYTES);
    this.shown = 0;
    this.text = h('pre', { tabindex: 0, 'aria-label': stream });
    this.note = h('p', { class: 'note' });
    this.element = h('section', { class: `output ${stream}` },
      h('h2', {}, stream, ' ', h('a', { href: this.path, download: `${id}.${stream}` }, 'as a file')), this.note, this.text);
    if (this.offset > 0) this.tellCut();
    this.follow();
  }

  tellCut() {
    this.note.textContent = 'Only the end is shown; the file has all that is kept.';
  }

  // The end is kept in sight for whoever has not scrolled away from it.
  append(piece) {
    if (piece === '') return;
    const isAtEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
    this.text.append(piece);
    this.shown += piece.length;
    while (this.shown > SHOWN_MAX && this.text.childNodes.length > 1) {
      this.shown -= this.text.firstChild.data.length;
      this.text.firstChild.remove();
      this.tellCut();
    }
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
  }

  async readToEnd() {
    const decoder = new TextDecoder();
    const reader = await getStream(`${this.path}&offset=${this.offset}&follow=true`, this.controller.signal);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      this.offset += value.byteLength;
      this.append(decoder.decode(value, { stream: true }));
    }
    this.append(decoder.decode());
  }

  // A runner that is upgraded in place ends the stream in order, and the task goes on.
  async isOver() {
    const attempt = await get(`${this.task}?output=none`, this.controller.signal);
    return attempt.state !== 'running' || attempt.unit !== this.unit;
  }

  async follow() {
    while (!this.controller.signal.aborted) {
      try {
        await this.readToEnd();
        if (await this.isOver()) {
          if (this.shown === 0) this.note.textContent = 'nothing';
          return;
        }
      } catch (error) {
        if (this.controller.signal.aborted) return;
        if (error instanceof ApiError) {
          this.note.textContent = error.message;
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS)); // until the stream of events has noticed, too
      await this.context.shared.live.opened();
    }
  }

  close() {
    this.controller.abort();
  }
}
