/** Lines of a compute process. Seen to fail: an allowance that never comes back, and a line without a bound. */

import { expect, it } from 'vitest';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { ComputeLines } from '../../../worker/process/compute-lines.js';

function written() {
  const told: [line: string, leftOutCount: number][] = [];
  let elapsedMs = 0;
  const clock = { ...instantClock(), monotonicMs: () => elapsedMs };
  const lines = new ComputeLines(clock, (line, leftOutCount) => told.push([line, leftOutCount]));
  return { told, lines, pass: (ms: number) => void (elapsedMs += ms) };
}

it('passes lines on, however they are cut', () => {
  const { told, lines } = written();
  for (const part of ['one\ntw', 'o\r\n', '\n', 'WARNING: All log messages before absl\n', 'three'])
    lines.write(part);
  expect(told.map(([line]) => line)).toEqual(['one', 'two']);
  lines.end();
  expect(told.at(-1)).toEqual(['three', 0]);
});

it('leaves lines out above 100 at once and 5 a second, and counts them', () => {
  const { told, lines, pass } = written();
  for (let count = 0; count < 130; count += 1) lines.write(`line ${count}\n`);
  expect(told).toHaveLength(100);
  pass(1_000);
  for (let count = 130; count < 140; count += 1) lines.write(`line ${count}\n`);
  expect(told.slice(100)).toEqual([
    ['line 130', 30],
    ...[131, 132, 133, 134].map((count) => [`line ${count}`, 0]),
  ]);
  lines.end();
  expect(told.at(-1)).toEqual(['line 139', 4]);
});

it('keeps the beginning of a line that does not end', () => {
  const { told, lines } = written();
  for (let count = 0; count < 100; count += 1) lines.write('x'.repeat(1_000));
  lines.end();
  expect(told).toEqual([['x'.repeat(4_000), 0]]);
});
