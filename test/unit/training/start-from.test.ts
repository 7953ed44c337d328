/** Runs that start from the end of another, and which of their parameters are frozen. */

import { describe, expect, test } from 'vitest';
import {
  metaOptimizerOf,
  steppedState,
  assertTrainable,
} from '../../../coordinator/training/meta-optimizer.js';
import { learnedNamesOf } from '../../../shared/models/model-spec.js';
import { stateFrom } from '../../../coordinator/training/run-checkpoints.js';
import { TrainingConfigSchema } from '../../../shared/config/training-config.js';
import { refusalOf } from '../../fixtures/failures.js';
import { twoTableSpec } from '../../fixtures/gradient-results.js';
import { gradients, parameters } from '../../fixtures/optimizer-problem.js';

const spec = {
  ...twoTableSpec,
  variables: [
    { name: 'x', shape: [2], block: 'trunk', initial: { kind: 'zeros' } },
    { name: 'generator.weight', shape: [1], block: 'method', initial: { kind: 'zeros' } },
  ],
  tables: [{ name: 't', rowCount: 2, initial: { kind: 'zeros' } }],
} as const;

function optimizerOf(trainable?: string[]): ReturnType<typeof metaOptimizerOf> {
  const optimizer = { kind: 'adam', rate: 0.1 };
  return metaOptimizerOf(
    TrainingConfigSchema.parse({ optimizer, ...(trainable === undefined ? {} : { trainable }) }),
    spec.variables,
  );
}

describe('a run that starts from another', () => {
  const optimizer = optimizerOf();
  const base = parameters([1, 2], [3, 4]);
  const trained = steppedState(
    optimizer,
    { outerStep: 0, metaParameters: base, optimizer: optimizer.init(base), computedOn: [] },
    gradients([1, -1], [0], [1]),
  );

  test('takes over shared parameters as copies, and initialises the rest', () => {
    const { metaParameters, outerStep } = stateFrom(trained, spec, 1, optimizer);
    expect(outerStep).toBe(0);
    expect([...metaParameters.dense.keys()]).toEqual(['x', 'generator.weight']);
    expect(metaParameters.dense.get('x')?.values).toEqual(
      trained.metaParameters.dense.get('x')?.values,
    );
    expect([...(metaParameters.dense.get('generator.weight')?.values ?? [])]).toEqual([0]);
    metaParameters.tables.get('t')?.values.fill(9);
    expect(trained.metaParameters.tables.get('t')?.values[1]).toBe(4);
  });

  test('starts the optimizer afresh', () => {
    const fresh = stateFrom(trained, spec, 1, optimizer).optimizer;
    expect(fresh.scalars['adam.firstDecayPower']).toBe(1);
    expect(fresh.tables.get('adam.firstMoment/t')?.values[0]).toBe(0);
  });

  test('moves only the named parameters, with or without momentum', () => {
    const frozen = optimizerOf(['t']);
    const moved = steppedState(frozen, trained, gradients([5, 5], [1], [1]));
    expect(moved.metaParameters.dense.get('x')?.values).toEqual(
      trained.metaParameters.dense.get('x')?.values,
    );
    const still = optimizerOf(['x']);
    const before = [...(trained.metaParameters.tables.get('t')?.values ?? [])];
    const onlyX = steppedState(still, trained, gradients([5, 5], [1], [1]));
    expect([...(onlyX.metaParameters.tables.get('t')?.values ?? [])]).toEqual(before);
    expect(onlyX.metaParameters.dense.get('x')?.values[0]).toBeLessThan(
      trained.metaParameters.dense.get('x')?.values[0] ?? 0,
    );
  });
});

test('the name of the method stands for all its variables, and for no others', () => {
  expect(() => assertTrainable(spec, ['meta-embedding'], 'meta-embedding')).not.toThrow();
  expect(
    refusalOf(() => assertTrainable(spec, ['posterior'], 'meta-embedding')).report,
  ).toMatchObject({
    found: 'posterior',
  });
  const ofModel = { ...spec, variables: spec.variables.slice(0, 1) };
  expect(refusalOf(() => assertTrainable(ofModel, ['meta-embedding'], 'meta-embedding')).kind).toBe(
    'usage',
  );
  expect(learnedNamesOf(spec, 'all', ['meta-embedding', 't'])).toEqual({
    variables: ['generator.weight'],
    tables: ['t'],
  });
  const start = parameters([1, 2], [3, 4]);
  const dense = new Map(start.dense).set('generator.weight', {
    ...{ shape: [1], values: Float32Array.of(0) },
  });
  const optimizer = optimizerOf(['meta-embedding']);
  const metaParameters = { ...start, dense };
  const moved = steppedState(
    optimizer,
    { outerStep: 0, metaParameters, optimizer: optimizer.init(metaParameters), computedOn: [] },
    {
      ...gradients([1, 1], [0], [1]),
      dense: new Map([
        ['x', { shape: [2], values: Float32Array.of(1, 1) }],
        ['generator.weight', { shape: [1], values: Float32Array.of(1) }],
      ]),
    },
  ).metaParameters;
  expect([...(moved.dense.get('x')?.values ?? [])]).toEqual([1, 2]);
  expect(moved.dense.get('generator.weight')?.values[0]).toBeCloseTo(-0.1, 6);
});
