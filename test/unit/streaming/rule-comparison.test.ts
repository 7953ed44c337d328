/** The comparison of rules: repeatable, judged on later rows only, and its verdict. */

import { describe, expect, test } from 'vitest';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { rulesDocument, verdictOf } from '../../../coordinator/reports/rule-comparison-document.js';
import {
  compareRules,
  type ComparisonSettings,
  type RuleComparison,
  type RuleResult,
} from '../../../coordinator/streaming/rule-comparison.js';
import type { StreamRows } from '../../../shared/streaming/stream-rows.js';
import { smallStream } from '../../fixtures/small-stream.js';

const linesOf = (comparison: RuleComparison): string[] =>
  asText(rulesDocument(comparison), 200).split('\n');

const SETTINGS: ComparisonSettings = {
  seed: 1,
  batchRows: 1,
  priorRowCount: 200,
  chosenFromRow: 100,
  candidateCount: 4,
  rank: 2,
  embeddedSlots: [0, 1, 2],
  placesOthers: true,
  sweepCount: 6,
  rareRows: 5,
  windowRows: 40,
  epochCount: 2,
  pairsPerStep: 2,
  rate: 0.05,
  query: 'progressive',
  segmentStarts: [200, 250, 300, 350],
};

/**
 * The stream with the labels flipped of each row from `from` on, five days later and with doubled
 * features.
 */
function changedFrom(rows: StreamRows, from: number): StreamRows {
  const features: number[] = [];
  const rowStarts = [0];
  for (const row of rows.clicks.keys()) {
    const own = rows.features.subarray(rows.rowStarts[row], rows.rowStarts[row + 1]);
    features.push(...own, ...(row >= from ? own : []));
    rowStarts.push(features.length);
  }
  return {
    ...rows,
    features: Int32Array.from(features),
    rowStarts: Int32Array.from(rowStarts),
    clicks: rows.clicks.map((click, row) => (row >= from ? 1 - click : click)),
    times: rows.times.map((days, row) => (row >= from ? days + 5 : days)),
  };
}

describe('comparing rules', () => {
  const rows = smallStream({ seed: 6, rowCount: 400 });

  test('the same stream and settings give the same digests, another seed gives others', async () => {
    const first = await compareRules(rows, SETTINGS);
    const again = await compareRules(rows, SETTINGS);
    expect(again).toEqual(first);
    const other = await compareRules(rows, { ...SETTINGS, seed: 2 });
    expect(other.rules.map(({ digest }) => digest)).not.toEqual(
      first.rules.map(({ digest }) => digest),
    );
    expect(first.rules.map(({ rule }) => rule)).toEqual([
      'sgd',
      'adagrad',
      'ftrl',
      'adam',
      'learned',
    ]);
  });

  test.each([
    ['all slots embedded', {}],
    ['two slots embedded alone', { embeddedSlots: [0, 1], placesOthers: false }],
    ['two slots embedded, others placed', { embeddedSlots: [0, 1] }],
  ])('nothing is chosen by the rows that are judged: %s', async (_, change) => {
    const settings = { ...SETTINGS, ...change };
    const changed = await compareRules(changedFrom(rows, SETTINGS.priorRowCount), settings);
    const { rules, parameters } = await compareRules(rows, settings);
    expect(changed.parameters).toEqual(parameters);
    expect(changed.rules.map(({ chosen }) => chosen)).toEqual(rules.map(({ chosen }) => chosen));
    for (const [index, { rule, logloss }] of changed.rules.entries())
      expect(logloss, rule).not.toBe(rules[index]?.logloss);
  });

  test('a logloss is the mean of its segments, weighted by their rows', async () => {
    const { rules } = await compareRules(rows, { ...SETTINGS, segmentStarts: [200, 380] });
    for (const { logloss, segmentLoglosses } of rules)
      expect(logloss).toBeCloseTo(0.9 * segmentLoglosses[0]! + 0.1 * segmentLoglosses[1]!, 12);
  });
});

describe('the verdict', () => {
  const result = (
    rule: RuleResult['rule'],
    logloss: number,
    low: number,
    high: number,
  ): RuleResult => ({
    rule,
    chosen: null,
    priorLogloss: 0.5,
    logloss,
    segmentLoglosses: [],
    behindLearned: rule === 'learned' ? null : { value: logloss - 0.4, low, high },
    digest: '',
  });
  const comparisonOf = (low: number, high: number): RuleComparison => ({
    judgedRowCount: 1000,
    rules: [
      result('sgd', 0.5, 0.09, 0.11),
      result('ftrl', 0.41, low, high),
      result('learned', 0.4, 0, 0),
    ],
    epochLoglosses: [],
    parameters: new Float64Array(0),
  });

  test.each([
    [0.005, 0.015, 'better'],
    [-0.005, 0.015, 'within noise'],
    [-0.015, -0.005, 'worse'],
  ] as const)('against the best baseline, interval [%d, %d]: %s', (low, high, verdict) => {
    const found = verdictOf(comparisonOf(low, high));
    expect(found).toMatchObject({ low: -high, high: -low, verdict });
    expect(found?.best.rule).toBe('ftrl');
    expect(linesOf(comparisonOf(low, high)).at(-1)).toContain(`learned rule is ${verdict}.`);
  });

  test('a rule without a finite logloss is named, and is not the reference of the verdict', () => {
    const diverged = (rule: RuleResult['rule']): RuleResult => ({
      ...result(rule, NaN, 0, 0),
      behindLearned: null,
    });
    const [sgd, , learned] = comparisonOf(0.005, 0.015).rules;
    const withRules = (...rules: (RuleResult | undefined)[]): RuleComparison => ({
      ...comparisonOf(0, 0),
      rules: rules.filter((rule) => rule !== undefined),
    });
    const withoutFtrl = withRules(sgd, diverged('ftrl'), learned);
    expect(verdictOf(withoutFtrl)?.best.rule).toBe('sgd');
    const lines = linesOf(withoutFtrl).join('\n');
    expect(lines).toContain('The logloss of ftrl is not finite');
    expect(lines).toContain('learned rule is better.');

    const withoutLearned = withRules(diverged('sgd'), diverged('ftrl'), diverged('learned'));
    expect(verdictOf(withoutLearned)).toBeNull();
    expect(linesOf(withoutLearned).at(-1)).toBe(
      'The logloss of sgd, ftrl, learned is not finite: there is nothing to judge.',
    );
  });
});
