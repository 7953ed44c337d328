/** Progressive validation: the logit of a row does not depend on its own label or a later one. */

import { describe, expect, test } from 'vitest';
import {
  meanLogloss,
  progressiveLogits,
} from '../../../coordinator/streaming/progressive-validation.js';
import {
  baselineLearner,
  type BaselineSettings,
} from '../../../coordinator/streaming/baseline-rules.js';
import { emptyRuleState, learnedRuleLearner } from '../../../shared/streaming/learned-update.js';
import type { StreamLearner, StreamRows } from '../../../shared/streaming/stream-rows.js';
import { smallRule, smallStream } from '../../fixtures/small-stream.js';

const BASELINES: readonly BaselineSettings[] = [
  { kind: 'sgd', rate: 0.5, ratePower: 0.2, l2: 0.01 },
  { kind: 'adagrad', rate: 0.5, initialSum: 1, l2: 0.01 },
  { kind: 'ftrl', alpha: 0.5, beta: 1, l1: 0.01, l2: 0.1 },
  {
    kind: 'adam',
    rate: 0.1,
    firstMomentDecay: 0.9,
    secondMomentDecay: 0.99,
    epsilon: 1e-8,
    l2: 0.01,
  },
];

interface LearnerCase {
  readonly name: string;
  readonly open: (rows: StreamRows) => StreamLearner;
}

const LEARNERS: readonly LearnerCase[] = [
  ...BASELINES.map((settings) => ({
    name: settings.kind,
    open: (rows: StreamRows) => baselineLearner(settings, rows.featureCount),
  })),
  {
    name: 'learned',
    open: (rows) => learnedRuleLearner(smallRule(2, rows, 2), emptyRuleState(rows.featureCount, 2)),
  },
];

describe('progressive validation', () => {
  test.each(LEARNERS)(
    'logits do not depend on labels of their batch or later: $name',
    ({ open }) => {
      const rows = smallStream({ seed: 1, rowCount: 60 });
      for (const batchRows of [1, 7]) {
        const changedFrom = batchRows === 1 ? 31 : 28;
        const clicks = rows.clicks.map((click, row) => (row >= changedFrom ? 1 - click : click));
        const logits = progressiveLogits(open(rows), rows, batchRows);
        const others = progressiveLogits(open(rows), { ...rows, clicks }, batchRows);
        const known = changedFrom + batchRows;
        expect(others.subarray(0, known)).toEqual(logits.subarray(0, known));
        expect(others.subarray(known)).not.toEqual(logits.subarray(known));
      }
    },
  );

  test('labels that nothing predicts cost ln 2 a row when every row has its own feature', () => {
    const rowCount = 50;
    const rows: StreamRows = {
      ...smallStream({ seed: 4, rowCount }),
      featureCount: rowCount,
      slotOfFeature: new Uint8Array(rowCount),
      rowStarts: Int32Array.from({ length: rowCount + 1 }, (_, row) => row),
      features: Int32Array.from({ length: rowCount }, (_, row) => row),
    };
    const learner = baselineLearner(BASELINES[0]!, rowCount);
    const logits = progressiveLogits(learner, rows, 1);
    expect(meanLogloss(logits, rows, { from: 0, to: rowCount })).toBeCloseTo(Math.LN2, 12);
  });

  test('resuming from a row gives the same result as not stopping', () => {
    const rows = smallStream({ seed: 8, rowCount: 40 });
    for (const { open } of LEARNERS) {
      const whole = progressiveLogits(open(rows), rows, 1);
      const learner = open(rows);
      const parts = [
        ...progressiveLogits(learner, rows, 1, { from: 0, to: 13 }),
        ...progressiveLogits(learner, rows, 1, { from: 13, to: 40 }),
      ];
      expect(parts).toEqual([...whole]);
    }
  });
});
