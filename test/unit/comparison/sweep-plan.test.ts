/** Trials and rungs of a sweep before training starts, and refused plans. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { outerStepTotal, rungsOf } from '../../../coordinator/sweep/run-sweep.js';
import { planTrials } from '../../../coordinator/sweep/trials.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { parseConfig } from '../../../shared/config/yaml-file.js';
import { configHash } from '../../../shared/config/run-config.js';
import { SWEEP_CONFIG, SweepConfigSchema } from '../../../shared/config/sweep-config.js';
import { refusalOf } from '../../fixtures/failures.js';
import { smallRun } from '../../fixtures/commands/small-run.js';

const BASE = smallRun('base', 18);

function sweepOf(grid: unknown, rest: Record<string, unknown> = {}) {
  return SweepConfigSchema.parse({
    sweep: 'tiny',
    base: 'base.yaml',
    output: 'out',
    grid,
    ...rest,
  });
}

const plan = (grid: unknown, rest?: Record<string, unknown>) =>
  planTrials(sweepOf(grid, rest), BASE, 'sweep.yaml');

describe('trials', () => {
  it('combine every value with every other, the last path varying fastest', () => {
    const trials = plan({ 'method.innerRate': [0.1, 0.2], seed: [1, 2, 3] });
    expect(trials.map(({ name, config }) => [name, config.seed])).toEqual([
      ['t01', 1],
      ['t02', 2],
      ['t03', 3],
      ['t04', 1],
      ['t05', 2],
      ['t06', 3],
    ]);
    expect(trials[3]?.settings).toEqual({ 'method.innerRate': 0.2, seed: 1 });
    expect(trials[3]?.config).toMatchObject({
      run: 'tiny-t04',
      output: 'out/trials/t04',
      method: { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 },
      data: { store: 'store' },
    });
  });

  it('of several grids are joined; a whole section is applied before fields within it', () => {
    const trials = plan([
      {
        'method.innerRate': [0.5],
        method: [{ kind: 'paml-gate' }, { kind: 'fomaml', innerSteps: 7 }],
      },
      { method: [{ kind: 'global' }] },
    ]);
    expect(trials.map(({ config }) => config.method)).toMatchObject([
      { kind: 'paml-gate', innerRate: 0.5, innerSteps: 3 },
      { kind: 'fomaml', innerRate: 0.5, innerSteps: 7 },
      { kind: 'global' },
    ]);
  });

  it('differ from the base only in the swept fields', () => {
    // The base has no optimizer section; the trials extend that of its defaults.
    const [trial] = plan({ 'training.optimizer.rate': [0.02, 0.03] });
    const changed = structuredClone(BASE);
    Object.assign(changed.training, { optimizer: { kind: 'adam', rate: 0.02 } });
    const expected = parseConfig(RUN_CONFIG, JSON.stringify(changed), 'changed');
    expect(configHash(trial!.config)).toBe(configHash(expected));
    const { data, evaluation, compute, queue, storage } = trial!.config;
    expect({ data, evaluation, compute, queue, storage }).toEqual({
      data: expected.data,
      evaluation: expected.evaluation,
      compute: expected.compute,
      queue: expected.queue,
      storage: expected.storage,
    });
  });

  it.each<[string, unknown, Record<string, unknown>, RegExp, RegExp]>([
    ['one trial', { seed: [1] }, {}, /nothing to choose from/, /^1$/],
    ['too many', { seed: [1, 2, 3] }, { trialsMax: 2 }, /more trials than allowed/, /^3$/],
    [
      'a budget',
      { 'training.tasksPerOuterStep': [1, 2] },
      {},
      /budget .* cannot be swept/,
      /tasks/,
    ],
    [
      'a field that does not exist',
      { 'method.inerRate': [0.1, 0.2] },
      {},
      /fields that are wrong/,
      /method\.inerRate: there is no such field; did you mean "innerRate"/,
    ],
    ['a wrong value', { 'method.innerSteps': [1, 0] }, {}, /fields that are wrong/, /above 0/],
    ['the same run twice', { seed: [1, 2, 1] }, {}, /same run/, /t01 \(seed 1\) and t03/],
  ])('refuse %s', (_, grid, rest, what, found) => {
    const { report } = refusalOf(() => plan(grid, rest));
    expect(report.kind).toBe('usage');
    expect(report.where).toContain('sweep.yaml');
    expect(report.what).toMatch(what);
    expect(report.found).toMatch(found);
    expect(report.cure).toBeDefined();
  });
});

it.each<[string, string, RegExp]>([
  ['without a grid', 'sweep: a\nbase: b\noutput: o\n', /grid/],
  [
    'of unknown fields',
    'sweep: a\nbase: b\noutput: o\ngrid: {}\nhalfing: {}\n',
    /did you mean "halving"/,
  ],
])('a sweep file: %s is refused with the field', (_, yaml, found) => {
  const { report } = refusalOf(() => parseConfig(SWEEP_CONFIG, yaml, 'sweep.yaml'));
  expect(report.what).toBe('the sweep has fields that are wrong, missing or unknown');
  expect(report.found).toMatch(found);
});

describe('rungs', () => {
  it('of 9 trials and 90 outer steps with a third promoted: 9 to 10, 3 to 30, 1 to 90', () => {
    const rungs = rungsOf(9, 90, { eta: 3 }, 'here');
    expect(rungs).toEqual([
      { outerSteps: 10, trialCount: 9 },
      { outerSteps: 30, trialCount: 3 },
      { outerSteps: 90, trialCount: 1 },
    ]);
    // 9 * 10 + 3 * 20 + 1 * 60
    expect(outerStepTotal(rungs)).toBe(210);
  });

  it('rise in steps and fall in trials, end with the whole run, and cost no more than full training of all', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 300 }),
        fc.integer({ min: 1000, max: 100_000 }),
        fc.integer({ min: 2, max: 6 }),
        (trialCount, outerSteps, eta) => {
          const rungs = rungsOf(trialCount, outerSteps, { eta }, 'here');
          expect(rungs[0]?.trialCount).toBe(trialCount);
          expect(rungs.at(-1)?.outerSteps).toBe(outerSteps);
          for (const [index, rung] of rungs.entries()) {
            const before = rungs[index - 1];
            if (before === undefined) continue;
            expect(rung.outerSteps).toBeGreaterThan(before.outerSteps);
            expect(rung.trialCount).toBeLessThanOrEqual(before.trialCount);
            expect(rung.trialCount).toBeGreaterThanOrEqual(1);
          }
          expect(outerStepTotal(rungs)).toBeLessThanOrEqual(trialCount * outerSteps);
        },
      ),
    );
  });
});
