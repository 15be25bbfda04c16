// SPDX-License-Identifier: LGPL-2.1-or-later

// Bars, and courses over the last hour. What they show stands beside them in words, too.

import { h, svg } from './dom.js';
import { numberText } from './format.js';

const SPAN_MS = 3600 * 1000;
const WIDTH = 600;
const HEIGHT = 120;

export function bar(title, { used, total }) {
  const text = `${numberText(used)} of ${numberText(total)} in use`;
  const share = total > 0 ? Math.min(1, used / total) : 0;
  return h('p', { class: 'bar' }, h('span', { class: 'bar-title' }, title),
    svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('rect', { class: 'bar-all', width: 100, height: 10 }),
      svg('rect', { class: 'bar-used', width: 100 * share, height: 10 })),
    h('span', {}, text));
}

// A value holds until the next one, so the line goes by steps, and up to now.
function path(values, begin, end, max) {
  const x = (time) => (WIDTH * (Math.max(time, begin) - begin)) / (end - begin);
  const y = (value) => HEIGHT - 2 - ((HEIGHT - 4) * value) / max;
  let text = '';
  for (const [time, value] of values) text += `${text ? `H${x(time).toFixed(1)}V` : `M${x(time).toFixed(1)} `}${y(value).toFixed(1)}`;
  return text && `${text}H${WIDTH}`;
}

function maximum(values, begin) {
  const inSight = values.filter(([time], i) => time >= begin || !values[i + 1] || values[i + 1][0] > begin);
  return inSight.reduce((most, [, value]) => Math.max(most, value), 0);
}

// LINES are {title, class, values}, these being [time in ms, value], the oldest first.
export function chart(title, lines, end = Date.now()) {
  const begin = end - SPAN_MS;
  const most = Math.max(1, ...lines.map((line) => maximum(line.values, begin)));
  const words = lines.map((line) => `${line.title}: ${numberText(line.values.at(-1)?.[1] ?? 0)} now, `
    + `${numberText(maximum(line.values, begin))} at most`);
  return h('figure', { class: 'chart' },
    h('figcaption', {}, h('b', {}, title), ...lines.map((line, i) => h('span', { class: `key ${line.class}` }, words[i]))),
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}; ${words.join('; ')}` },
      svg('path', { class: 'grid', d: `M0 ${HEIGHT / 2}H${WIDTH}M${WIDTH / 2} 0V${HEIGHT}` }),
      ...lines.map((line) => svg('path', { class: `line ${line.class}`, d: path(line.values, begin, end, most) }))),
    h('p', { class: 'axis' }, h('span', {}, 'an hour ago'), h('span', {}, 'half an hour ago'), h('span', {}, 'now')));
}
