/** The throughput of a plan by workers, as a picture with logarithmic axes. */

import type { Drawn, Prediction } from '../../capacity/capacity-plan.js';
import { formatCount } from '../text-format.js';

const WIDTH = 560;
const HEIGHT = 360;
const FRAME = { left: 70, right: 20, top: 20, bottom: 50 };
const COLOURS = { line: '#1f6feb', rule: '#ddd', ink: '#333' };

/** Standalone SVG, with a decade for each rule. */
export function capacitySvg(byWorkers: readonly Prediction[], drawn: Drawn): string {
  const right = WIDTH - FRAME.right;
  const bottom = HEIGHT - FRAME.bottom;
  const across = axis(
    byWorkers.map(({ workerCount }) => workerCount),
    FRAME.left,
    right,
  );
  const up = axis(
    byWorkers.map(({ perSecond }) => perSecond),
    bottom,
    FRAME.top,
  );
  const places = byWorkers.map(
    ({ workerCount, perSecond }) =>
      `${across.at(workerCount).toFixed(1)},${up.at(perSecond).toFixed(1)}`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="${COLOURS.ink}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    ...across.decades.flatMap((value) => [
      rule(across.at(value), bottom, across.at(value), FRAME.top),
      label(across.at(value), bottom + 18, 'middle', formatCount(value)),
    ]),
    ...up.decades.flatMap((value) => [
      rule(FRAME.left, up.at(value), right, up.at(value)),
      label(FRAME.left - 6, up.at(value) + 4, 'end', formatCount(value)),
    ]),
    label((FRAME.left + right) / 2, HEIGHT - 12, 'middle', 'workers'),
    label(FRAME.left, FRAME.top - 6, 'start', `${drawn} per second`),
    `<polyline points="${places.join(' ')}" fill="none" stroke="${COLOURS.line}" stroke-width="2"/>`,
    '</svg>',
    '',
  ].join('\n');
}

interface Axis {
  /** The powers of ten that span the values. */
  readonly decades: readonly number[];
  /** The place of a value in the picture. */
  at(value: number): number;
}

function axis(values: readonly number[], start: number, end: number): Axis {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  return {
    decades: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)),
    at: (value) => start + ((Math.log10(value) - low) / (high - low)) * (end - start),
  };
}

function rule(x1: number, y1: number, x2: number, y2: number): string {
  const ends = [x1, y1, x2, y2].map((place) => place.toFixed(1));
  const [fromX, fromY, toX, toY] = ends;
  return `<line x1="${fromX}" y1="${fromY}" x2="${toX}" y2="${toY}" stroke="${COLOURS.rule}"/>`;
}

function label(x: number, y: number, anchor: 'start' | 'middle' | 'end', text: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${text}</text>`;
}
