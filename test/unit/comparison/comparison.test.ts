/** Runs side by side: the numbers of their evaluations, paired differences, and refusals. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { comparisonDocument } from '../../../coordinator/reports/comparison-document.js';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  compareRuns,
  ComparisonReportSchema,
  type ComparisonReport,
  armOf,
  parseRunArgument,
  readEvaluatedRun,
  type EvaluatedRun,
} from '../../../coordinator/scoring/compare-runs.js';
import {
  decodeTestLogits,
  encodeTestLogits,
  TEST_LOGITS_KEY,
} from '../../../coordinator/scoring/test-logits.js';
import { QianmoError, type FailureReport } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { evaluatedOutput, evaluatedRun } from '../../fixtures/evaluation/evaluated-runs.js';
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

function refusalOf(action: () => unknown): FailureReport {
  try {
    action();
  } catch (error) {
    if (error instanceof QianmoError) return error.report;
    throw error;
  }
  throw new Error('nothing was refused');
}

async function laterRefusalOf(action: Promise<unknown>): Promise<FailureReport> {
  const error: unknown = await action.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof QianmoError)) throw new Error('nothing was refused', { cause: error });
  return error.report;
}

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

  it('labels runs by run and arm, and numbers repeated labels', () => {
    expect(report.runs.map(({ label }) => label)).toEqual([
      'near:meta-unadapted',
      'far:meta-unadapted',
      'near:meta-adapted',
      'near:meta-unadapted #2',
    ]);
    expect(report.runs[0]?.cell).toBeNull();
    expect(report.runs[2]?.cell?.kind).toBe('inner-steps');
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

  it('says which run is worse when the interval allows it', () => {
    const text = asText(comparisonDocument(report)).replace(/\s+/g, ' ');
    expect(text).toContain('far:meta-unadapted is worse than near:meta-unadapted');
    expect(text).toContain('near:meta-unadapted #2 is not better than near:meta-unadapted');
    expect(asPage(comparisonDocument(report))).toContain('<p class="worse">far:meta-unadapted');
  });

  it('accepts its own size buckets', () => {
    const { slices } = compareRuns(
      [
        { evaluated: near, arm: null },
        { evaluated: far, arm: null },
      ],
      [5],
    );
    expect(slices.map(({ name }) => name)).toEqual(['all', '0-5', '>5']);
    expect((slices[1]?.adgroupCount ?? 0) + (slices[2]?.adgroupCount ?? 0)).toBe(
      slices[0]?.adgroupCount,
    );
  });

  it('has the same intervals for all adgroups and for a bucket that contains them all', () => {
    const { slices } = compareRuns(
      [
        { evaluated: near, arm: null },
        { evaluated: far, arm: null },
      ],
      [1_000_000],
    );
    expect(slices.map(({ name }) => name)).toEqual(['all', '0-1000000']);
    expect(slices[1]?.arms).toEqual(slices[0]?.arms);
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

describe('runs with value labels', () => {
  it('are compared by squared error, without metrics that need classes', async () => {
    const values = tinyTaskStore({ taskCount: 80, losses: ['squared'] });
    const [first, second] = [
      await evaluatedRun('first', { store: values, metaBias: -0.2 }),
      await evaluatedRun('second', { store: values, metaBias: 1 }),
    ];
    const found = compareRuns([
      { evaluated: first, arm: 'meta-unadapted' },
      { evaluated: second, arm: 'meta-unadapted' },
      { evaluated: second, arm: 'meta-adapted' },
    ]);
    for (const [run, { report: own }] of [first, second].entries()) {
      const metrics = own.slices[0]?.arms.find((each) => each.arm === 'meta-unadapted')?.metrics;
      const compared = found.slices[0]?.arms[run]?.metrics;
      expect(compared?.logloss).toBeCloseTo(metrics?.logloss ?? NaN, 10);
      expect(compared?.values?.mae).toBeCloseTo(metrics?.values?.mae ?? NaN, 10);
      expect(compared?.calibration).toBeCloseTo(metrics?.calibration ?? NaN, 10);
    }
    const table = asText(comparisonDocument(found), 100);
    expect(table).toContain('difference in squared error');
    expect(table).not.toMatch(/AUC|nats/);
    const html = asPage(comparisonDocument(found));
    expect(/NaN|undefined|Infinity/.exec(table + html)).toBeNull();
    expect(html).toContain('validation squared error');
    expect(html).not.toContain('validation logloss');
    expect(
      refusalOf(() =>
        compareRuns([
          { evaluated: first, arm: null },
          { evaluated: near, arm: null },
        ]),
      ).found,
    ).toContain('labels judged by binary loss instead of squared');
  });
});

describe('its table and page', () => {
  it('contain every run, every bucket and every logloss', () => {
    const table = asText(comparisonDocument(report), 100);
    const html = asPage(comparisonDocument(report));
    for (const { label } of report.runs) {
      expect(table).toContain(label);
      expect(html).toContain(label);
    }
    for (const { name, arms } of report.slices)
      for (const { metrics } of arms) {
        expect(table).toContain(name);
        expect(table).toContain(metrics.logloss.toFixed(4));
        expect(html).toContain(metrics.logloss.toFixed(4));
      }
    expect(/NaN|undefined|Infinity/.exec(table + html)).toBeNull();
  });

  it('reference nothing external, escape names and mark one best value per column', () => {
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

describe('runs that cannot be compared', () => {
  it('a single run or a missing arm is refused with its cure', () => {
    expect(refusalOf(() => compareRuns([{ evaluated: near, arm: null }]))).toMatchObject({
      kind: 'usage',
      what: 'a comparison needs at least two runs',
    });
    const arm = refusalOf(() => armOf(near, 'meta-adaptd'));
    expect(arm).toMatchObject({ kind: 'usage', where: near.address, found: 'meta-adaptd' });
    expect(arm.cure).toBe('did you mean meta-adapted?');
  });

  it('a run without an evaluation is refused', async () => {
    const nothing = await laterRefusalOf(readEvaluatedRun(new MemoryObjectStore('nowhere')));
    expect(nothing).toMatchObject({ kind: 'usage', what: 'the run was not evaluated' });
    expect(nothing.cure).toContain('qianmo evaluate');
  });

  it('a segment that is not named or does not exist is refused', async () => {
    const segmented = new MemoryObjectStore('segmented');
    await segmented.put('evaluation-buyer.json', new Uint8Array(1), { kind: 'always' });
    for (const [segment, expected] of [
      [null, 'evaluation.json'],
      ['re/turning', 'evaluation-re=2fturning.json'],
    ] as const) {
      const refusal = await laterRefusalOf(readEvaluatedRun(segmented, segment));
      expect(refusal).toMatchObject({ kind: 'usage', expected, found: 'evaluation-buyer.json' });
      expect(refusal.cure).toContain('--segment');
    }
  });

  it('missing or changed logits are refused', async () => {
    const output = await evaluatedOutput('damaged', { store });
    const object = await output.get(TEST_LOGITS_KEY);
    const bytes = object!.bytes;
    bytes[bytes.length - 1]! ^= 1;
    await output.put(TEST_LOGITS_KEY, bytes, { kind: 'always' });
    const changed = await laterRefusalOf(readEvaluatedRun(output));
    expect(changed).toMatchObject({ kind: 'data', where: `memory://damaged/${TEST_LOGITS_KEY}` });
    expect(changed.found).toMatch(/sha256/);
    await output.delete(TEST_LOGITS_KEY);
    expect((await laterRefusalOf(readEvaluatedRun(output))).what).toContain('no logits');
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
    [
      'another number of rows',
      ({ logits }) => void (logits.rows.starts[1]! += 1),
      /query rows of adgroup task4 instead of/,
    ],
  ])('runs with %s are refused', async (_, change, found) => {
    const other = structuredClone(await evaluatedRun('other', { store }));
    change(other);
    const refusal = refusalOf(() =>
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
});

describe('the file of test logits', () => {
  it('is read back as it was written', () => {
    expect(decodeTestLogits(encodeTestLogits(near.logits), 'here')).toEqual(near.logits);
  });

  it('is refused when one column has another length', () => {
    const clicks = near.logits.rows.clicks.subarray(1);
    const bytes = encodeTestLogits({ ...near.logits, rows: { ...near.logits.rows, clicks } });
    expect(refusalOf(() => decodeTestLogits(bytes, 'here'))).toMatchObject({
      kind: 'data',
      what: 'these are not the test logits of an evaluation',
    });
  });
});
