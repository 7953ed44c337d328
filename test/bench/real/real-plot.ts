/** The differences of the bench as a picture: a line for each cell, left of 0 where the product is better. */

import type { RealRecord } from './real-record.js';
import { isCompared } from './recorded-cell.js';
import { verdictOf } from './difference-text.js';

const COLOURS: Readonly<Record<string, string>> = {
  better: '#1f883d',
  level: '#8a8f98',
  worse: '#cf222e',
};
const WIDTH = 760;
const LEFT = 230;
const RIGHT = 30;
const ROW_HEIGHT = 22;
const TOP = 50;
/** Intervals beyond it are cut. */
const LOGLOSS_MAX = 0.04;
const TICKS = [-0.04, -0.02, 0, 0.02, 0.04];

export function realSvg({ cells }: RealRecord): string {
  const compared = Object.values(cells).filter(isCompared);
  const height = TOP + compared.length * ROW_HEIGHT + 30;
  const xOf = (value: number): number => {
    const cut = Math.min(Math.max(value, -LOGLOSS_MAX), LOGLOSS_MAX);
    return LEFT + ((cut + LOGLOSS_MAX) / (2 * LOGLOSS_MAX)) * (WIDTH - LEFT - RIGHT);
  };
  const bottom = height - 24;
  const ticks = TICKS.map(
    (tick) =>
      `<line x1="${xOf(tick)}" x2="${xOf(tick)}" y1="${TOP - 8}" y2="${bottom}" stroke="${tick === 0 ? '#333' : '#ddd'}"/>` +
      label(xOf(tick), bottom + 16, tick.toFixed(2), 'middle'),
  );
  const rows = compared.flatMap((cell, index) => {
    const { chosen } = cell.differences;
    if (chosen === null) return [];
    const y = TOP + index * ROW_HEIGHT + 8;
    const colour = COLOURS[verdictOf(chosen)] ?? '#000';
    return [
      label(LEFT - 10, y + 4, `${cell.set}, ${cell.support}, seed ${cell.seed}`, 'end'),
      `<line x1="${xOf(chosen.low)}" x2="${xOf(chosen.high)}" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="3"/>`,
      `<circle cx="${xOf(chosen.value)}" cy="${y}" r="5" fill="${colour}"/>`,
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    label(
      10,
      18,
      'Logloss of the product minus that of the best peer, both chosen on validation tasks',
    ),
    label(10, 34, 'Left of 0, the product is better; 95 % intervals over tasks'),
    ...ticks,
    ...rows,
    '</svg>',
    '',
  ].join('\n');
}

function label(x: number, y: number, text: string, anchor = 'start'): string {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="12">${escaped}</text>`;
}
