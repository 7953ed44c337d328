import { expect, it } from 'vitest';
import { durationText } from '../../../coordinator/reports/record/duration-text.js';

it.each([
  [350, '350 ms'],
  [999.7, '1.0 s'],
  [4_210, '4.2 s'],
  [59_940, '59.9 s'],
  [59_960, '1 min'],
  [200_000, '3 min 20 s'],
  [7_500_000, '2 h 5 min'],
  [273_600_000, '3 d 4 h'],
])('says %d ms as %s', (durationMs, text) => {
  expect(durationText(durationMs)).toBe(text);
});
