/** The numbers at the axes of drawings. */

import { expect, it } from 'vitest';
import { progressChart } from '../../../coordinator/reports/page/curve-charts.js';

const ticksOf = (drawing: string): string[] =>
  [...drawing.matchAll(/<text[^>]*>(0\.\d+)<\/text>/g)].map(([, text = '']) => text);

it.each([0.0013, 0.00002, 0.4])('differ where values differ by %f', (spread) => {
  const points = [0, 75, 150].map((x): [number, number] => [x, 0.2574 + (spread * x) / 150]);
  const line = { name: 'a', colour: 'blue', points, isFaint: false, isEndAlone: false };
  const ticks = ticksOf(progressChart([line], 'outer steps', 'loss'));
  expect(ticks.length).toBeGreaterThanOrEqual(3);
  expect(new Set(ticks).size).toBe(ticks.length);
});
