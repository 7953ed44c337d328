/** Runs side by side: the numbers of their evaluations, paired differences, and refusals. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { comparisonDocument } from '../../../coordinator/reports/comparison-document.js';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  compareRuns,
  ComparisonReportSchema,
  type ComparisonReport,
  armOf,
  parseRunArgument,
  type EvaluatedRun,
} from '../../../coordinator/scoring/compare-runs.js';
import { refusalOf } from '../../fixtures/failures.js';
import { evaluatedRun } from '../../fixtures/evaluation/evaluated-runs.js';
import { formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const store = tinyTaskStore({ taskCount: 100, counts: true });
let near: EvaluatedRun;
let far: EvaluatedRun;
let report: ComparisonReport;

beforeAll(async () => {
  near = await evaluatedRun('near', { store, metaBias: -0.2 });
  far = await evaluatedRun('far', { store, metaBias: 2.5 });
  report = compareRuns([
    { evaluated: near, arm: 'meta-unadapted' },
    { evaluated: far, arm: 'meta-unadapted' },
    { evaluated: near, arm: null },
    { evaluated: near, arm: 'meta-unadapted' },
  ]);
});

describe('a comparison', () => {
  it('gives each run the metrics of its own evaluation, in every slice', () => {
    for (const [run, { arm, evaluated }] of [
      { arm: 'meta-unadapted', evaluated: near },
      { arm: 'meta-unadapted', evaluated: far },
      { arm: 'meta-adapted', evaluated: near },
    ].entries())
      for (const [index, slice] of evaluated.report.slices.entries()) {
        const metrics = slice.arms.find((each) => each.arm === arm)?.metrics;
        const compared = report.slices[index]?.arms[run]?.metrics;
        expect(compared?.logloss).toBeCloseTo(metrics?.logloss ?? NaN, 12);
        expect(compared?.loglossPerAdgroup.value).toBeCloseTo(
          metrics?.loglossPerAdgroup.value ?? NaN,
          12,
        );
        for (const name of ['normalisedEntropy', 'auc', 'gauc', 'calibration', 'ece'] as const)
          expect(compared?.[name]).toBeCloseTo(metrics?.[name] ?? NaN, 12);
      }
    expect(report.slices.map(({ name }) => name)).toEqual(
      near.report.slices.map(({ name }) => name),
    );
  });

  it('shows differences of the displayed values, and none of the first run from itself', () => {
    for (const { arms } of report.slices) {
      const [first, second, , same] = arms;
      expect(first?.differences).toEqual([]);
      expect(second?.differences[0]?.perImpression.value).toBeCloseTo(
        (second?.metrics.logloss ?? NaN) - (first?.metrics.logloss ?? NaN),
        12,
      );
      const none = { value: 0, low: 0, high: 0 };
      expect(same?.differences).toMatchObject([{ perImpression: none, perAdgroup: none }]);
    }
  });

  it('is repeatable and survives JSON', () => {
    const again = compareRuns([
      { evaluated: near, arm: 'meta-unadapted' },
      { evaluated: far, arm: 'meta-unadapted' },
      { evaluated: near, arm: null },
      { evaluated: near, arm: 'meta-unadapted' },
    ]);
    expect(again).toEqual(report);
    expect(ComparisonReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
  });
});

it('table and page of a comparison reference nothing external, escape names and mark one best value per column', () => {
  const rename = (text: string): string => text.replace('near:meta-adapted', '<b>"x"');
  const hostile: ComparisonReport = JSON.parse(JSON.stringify(report), (_, value: unknown) =>
    typeof value === 'string' ? rename(value) : value,
  ) as ComparisonReport;
  const html = asPage(comparisonDocument(hostile));
  expect(/https?:|url\((?!#)|@import|<script|<link|<b>"x"/i.exec(html)).toBeNull();
  expect(html).toContain('&lt;b&gt;&quot;x&quot;');
  const best = Math.min(...(report.slices[0]?.arms.map((arm) => arm.metrics.logloss) ?? []));
  expect(html).toContain(`<td class="best">${best.toFixed(4)}</td>`);
});

it('a run whose bias alone is personal is compared as its level, by either name', () => {
  const withBlocks = (of: EvaluatedRun, personalBlocks: string[]): EvaluatedRun => ({
    ...of,
    report: { ...of.report, run: { ...of.report.run, personalBlocks } },
  });
  const [level, other] = [withBlocks(near, ['bias']), withBlocks(far, ['bias', 'output'])];
  expect(armOf(level, 'level')).toBe('meta-adapted');
  expect(armOf(level, 'meta-adapted')).toBe('meta-adapted');
  const compared = compareRuns([
    { evaluated: other, arm: null },
    { evaluated: level, arm: 'level' },
    { evaluated: level, arm: 'level' },
  ]);
  expect(compared.runs.map(({ label }) => label)).toEqual([
    ...['far:meta-adapted', 'near:meta-adapted', 'near:meta-adapted #2'],
  ]);
  const { subtitle, blocks } = comparisonDocument(compared);
  expect(subtitle).toBe('far:meta-adapted, near:level, near:level #2');
  expect(JSON.stringify(blocks)).toMatch(/near:level #2 is .* than far:meta-adapted/);
  expect(JSON.stringify(blocks)).not.toContain('near:meta-adapted');
});

describe('an argument', () => {
  it.each([
    ['runs/a', 'runs/a', null],
    ['runs/a:meta-adapted', 'runs/a', 'meta-adapted'],
    ['a.yaml:global', 'a.yaml', 'global'],
    ['s3://bucket/prefix', 's3://bucket/prefix', null],
    ['s3://bucket:global', 's3://bucket', 'global'],
    ['file:///runs/a', 'file:///runs/a', null],
  ])('%s', (text, run, arm) => {
    expect(parseRunArgument(text)).toEqual({ run, arm });
  });

  it('without an arm means meta-adapted, otherwise the arm that was best on validation adgroups', async () => {
    expect(armOf(near, null)).toBe('meta-adapted');
    const config = formulaConfig({ run: 'global', method: { kind: 'global' } });
    const global = await evaluatedRun('global', { store, config, globalBias: null });
    const best = [...global.report.selection.chosen].sort(
      (a, b) => a.validationLogloss - b.validationLogloss,
    )[0];
    expect(armOf(global, null)).toBe(best?.arm);
  });
});

it.each<[string, (run: EvaluatedRun) => void, RegExp]>([
  [
    'other adgroups',
    ({ logits }) => void ((logits.taskKeys as string[])[0] = 'another'),
    /20 test adgroups instead of 20, 1 of those missing/,
  ],
  [
    'rows of another place in the logs',
    ({ logits }) => void (logits.rows.logRows[3] = 77),
    /other row of the logs in query row \d+ of adgroup task\d+: 77 instead of/,
  ],
  [
    'other clicks',
    ({ logits }) => void (logits.rows.clicks[0]! += 1),
    /other clicks in query row 1 of adgroup task4/,
  ],
])('runs with %s cannot be compared and are refused', async (_, change, found) => {
  const other = structuredClone(await evaluatedRun('other', { store }));
  change(other);
  const { report: refusal } = refusalOf(() =>
    compareRuns([
      { evaluated: near, arm: null },
      { evaluated: other, arm: null },
    ]),
  );
  expect(refusal).toMatchObject({
    kind: 'usage',
    what: 'these runs were not evaluated on the same test rows',
    where: 'memory://other',
  });
  expect(refusal.found).toMatch(found);
});
