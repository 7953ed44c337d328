/** The meta-gradient of the learned rule against central differences and the closed form of one step. */

import { describe, expect, test } from 'vitest';
import type { PairSettings } from '../../shared/streaming/rule-tape.js';
import { windowPairGradient } from '../../shared/streaming/window-pair-gradient.js';
import { smallPair, smallRule, smallStream } from '../fixtures/small-stream.js';

const CASES: readonly { name: string; rank: number; settings: PairSettings }[] = [
  { name: 'row by row, frozen', rank: 3, settings: { batchRows: 1, query: 'frozen' } },
  { name: 'row by row, progressive', rank: 3, settings: { batchRows: 1, query: 'progressive' } },
  { name: 'batches, progressive', rank: 2, settings: { batchRows: 7, query: 'progressive' } },
  { name: 'one step of a whole window', rank: 2, settings: { batchRows: 30, query: 'frozen' } },
  { name: 'no low-rank part', rank: 0, settings: { batchRows: 4, query: 'progressive' } },
];

describe('the meta-gradient of phi', () => {
  test.each(CASES)('agrees with central differences: $name', ({ rank, settings }) => {
    const rows = smallStream({ seed: 11, rowCount: 60 });
    const rule = smallRule(5, rows, rank);
    const pair = smallPair(3, rows, rule);
    const { gradient } = windowPairGradient(rule.shape, rule.parameters, pair, settings);
    const offences: string[] = [];
    for (let at = 0; at < gradient.length; at += 1) {
      const lossAt = (shift: number): number => {
        const moved = rule.parameters.slice();
        moved[at]! += shift;
        return windowPairGradient(rule.shape, moved, pair, settings).lossSum;
      };
      const h = 1e-5;
      const difference = (lossAt(h) - lossAt(-h)) / (2 * h);
      const error = Math.abs(difference - gradient[at]!);
      if (error > 1e-7 * (1 + Math.abs(difference)))
        offences.push(`phi[${at}]: ${gradient[at]} by the way back, ${difference} by differences`);
    }
    expect(offences).toEqual([]);
    expect(gradient.filter((value) => value !== 0).length).toBeGreaterThan(gradient.length / 2);
  });
});
