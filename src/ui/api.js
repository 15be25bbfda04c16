// SPDX-License-Identifier: LGPL-2.1-or-later

// What the page asks of its daemon. It only reads; a session is begun with a code from daggyctl(1).

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function check(answer) {
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, problem.detail ?? `the daemon answers with status ${answer.status}`);
}

export async function get(path, signal) {
  return (await check(await fetch(path, { signal }))).json();
}

// The body of an answer that comes piece by piece, as its reader.
export async function getStream(path, signal, headers = {}) {
  return (await check(await fetch(path, { signal, headers }))).body.getReader();
}

export async function beginSession(code) {
  await check(await fetch('/ui/session', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ code }),
  }));
}

export function taskPath(id) {
  return `/api/v1/task/${encodeURIComponent(id)}`;
}

// A page of the tasks, by {state, labels, after, limit}.
export function getTasks({ state, labels = [], after, limit = 100 }, signal) {
  const query = new URLSearchParams({ limit });
  if (state) query.append('state', state);
  for (const label of labels) query.append('label', label);
  if (after) query.append('after', after);
  return get(`/api/v1/tasks?${query}`, signal);
}
