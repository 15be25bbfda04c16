// SPDX-License-Identifier: LGPL-2.1-or-later

// How a view asks anew: soon after something has happened, but not more often than this, however much happens.

const PAUSE_MS = 1000;
const SOON_MS = 100;

// Calls ask(signal), an async function; what it fails with goes to onError, but for what comes of close(), and null when
// it did not fail.
export class Refresh {
  constructor(ask, onError) {
    this.ask = ask;
    this.onError = onError;
    this.controller = new AbortController();
    this.last = -PAUSE_MS;
    this.timer = null;
    this.isAsking = false;
    this.isDue = false;
  }

  soon() {
    this.isDue = true;
    if (this.timer !== null || this.isAsking || this.controller.signal.aborted) return;
    const wait = Math.max(SOON_MS, this.last + PAUSE_MS - performance.now());
    this.timer = setTimeout(() => this.now(), wait);
  }

  async now() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.isAsking) {
      this.isDue = true;
      return;
    }
    this.isDue = false;
    this.isAsking = true;
    this.last = performance.now();
    try {
      await this.ask(this.controller.signal);
      this.onError(null);
    } catch (error) {
      if (!this.controller.signal.aborted) this.onError(error);
    }
    this.isAsking = false;
    if (this.isDue) this.soon();
  }

  close() {
    clearTimeout(this.timer);
    this.controller.abort();
  }
}
