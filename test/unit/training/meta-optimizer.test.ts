import { describe, expect, it } from 'vitest';
import {
  chain,
  scalarOf,
  accumulateMomentum,
  addDecoupledWeightDecay,
  addRidge,
  clipByGlobalNorm,
  GRADIENT_NORM,
  afterPlateaus,
  rateShareAt,
  scaleByAdam,
  metaOptimizerOf,
  steppedState,
} from '../../../coordinator/training/meta-optimizer.js';
import type {
  OptimizerState,
  TrainingState,
} from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { TrainingConfigSchema } from '../../../shared/config/training-config.js';
import type { Variable } from '../../../shared/tensors/named-tensors.js';
import { gradients, parabola, parameters, valuesOf } from '../../fixtures/optimizer-problem.js';
import { DivergenceError } from '../../../shared/base/errors.js';

const close = (values: readonly number[]): unknown[] =>
  values.map((value): unknown => expect.closeTo(value, 6));

describe('clipByGlobalNorm', () => {
  const params = parameters([0, 0], [0, 0]);

  it('scales dense tensors and rows by one factor', () => {
    const clip = clipByGlobalNorm(6.5);
    // norm = sqrt(3^2 + 4^2 + 12^2) = 13; factor = 6.5 / 13 = 0.5
    const [updates, state] = clip.update(gradients([3, 4], [1], [12]), clip.init(params), params);
    expect(valuesOf(updates)).toEqual({ x: [1.5, 2], t: [6] });
    expect(scalarOf(state, GRADIENT_NORM)).toBe(13);
  });

  it('reports that training has diverged when the norm is not finite', () => {
    const clip = clipByGlobalNorm(1);
    const diverged = gradients([Number.POSITIVE_INFINITY, 0]);
    const update = () => clip.update(diverged, clip.init(params), params);
    expect(update).toThrow(/diverged/);
    expect(update).toThrow(DivergenceError);
  });
});

describe('scaleByAdam', () => {
  const constants = { firstMomentDecay: 0.9, secondMomentDecay: 0.99, epsilon: 0 };

  it('follows the formula for two steps', () => {
    const adam = scaleByAdam(constants);
    const params = parameters([0], []);
    // t=1: m = 0.1 * 2 = 0.2, v = 0.01 * 4 = 0.04
    //      (0.2 / 0.1) / sqrt(0.04 / 0.01) = 2 / 2 = 1
    const [first, state] = adam.update(gradients([2]), adam.init(params), params);
    expect(valuesOf(first).x).toEqual(close([1]));
    // t=2: m = 0.9 * 0.2 + 0.1 * -1 = 0.08, v = 0.99 * 0.04 + 0.01 * 1 = 0.0496
    //      (0.08 / 0.19) / sqrt(0.0496 / 0.0199) = 0.4210526 / 1.5787534 = 0.2666994
    const [second] = adam.update(gradients([-1]), state, params);
    expect(valuesOf(second).x).toEqual(close([0.266699]));
  });

  it('leaves untouched rows and their moments alone, and corrects by the outer step', () => {
    const adam = scaleByAdam(constants);
    const params = parameters([0], [0, 0, 0]);
    const [, state] = adam.update(gradients([0], [0], [2]), adam.init(params), params);
    const moments = state.tables.get('adam.firstMoment/t')?.values;
    expect(moments?.[0]).toBeCloseTo(0.2, 6);
    expect([...(moments ?? [])].slice(1)).toEqual([0, 0]);
    // Row 2 is touched first at t=2: m = 0.2, v = 0.04, powers 0.81 and 0.9801.
    // (0.2 / 0.19) / sqrt(0.04 / 0.0199) = 1.0526316 / 1.4177624 = 0.7424598
    const [second] = adam.update(gradients([0], [2], [2]), state, params);
    expect(valuesOf(second).t).toEqual(close([0.74246]));
    expect(moments?.[0]).toBeCloseTo(0.2, 6);
  });
});

it('accumulateMomentum adds up decaying gradients, on touched rows only', () => {
  const momentum = accumulateMomentum(0.5);
  const params = parameters([0], [0, 0]);
  const [first, state] = momentum.update(gradients([4], [1], [8]), momentum.init(params), params);
  expect(valuesOf(first)).toEqual({ x: [4], t: [8] });
  // x: 0.5 * 4 + 1 = 3; row 0: 0.5 * 0 + 2 = 2; row 1 waits with velocity 8.
  const [second, later] = momentum.update(gradients([1], [0], [2]), state, params);
  expect(valuesOf(second)).toEqual({ x: [3], t: [2] });
  // x: 0.5 * 3 + 0 = 1.5; row 1: 0.5 * 8 + 1 = 5.
  const [third] = momentum.update(gradients([0], [1], [1]), later, params);
  expect(valuesOf(third)).toEqual({ x: [1.5], t: [5] });
});

describe('addDecoupledWeightDecay', () => {
  const variable = (block: Variable['block']): Variable[] => [
    { name: 'x', shape: [2], block, initial: { kind: 'zeros' } },
  ];

  it('adds decay times the parameter to trunk variables and touched rows', () => {
    const decay = addDecoupledWeightDecay(0.5, variable('trunk'));
    const params = parameters([10, -2], [4, 8]);
    const [updates] = decay.update(gradients([1, 1], [1], [1]), decay.init(params), params);
    // x: 1 + 0.5 * 10 = 6, 1 + 0.5 * -2 = 0; row 1: 1 + 0.5 * 8 = 5
    expect(valuesOf(updates)).toEqual({ x: [6, 0], t: [5] });
  });
});

describe('ridge', () => {
  const variable = (name: string, block: Variable['block'] = 'trunk'): Variable => ({
    ...{ name, shape: [2], block, initial: { kind: 'zeros' } },
  });

  it('adds the parameter to the gradients of weights, without biases, personal blocks and rows', () => {
    const names = ['x', 'bias', 'layer0.bias', 'own'];
    const variables = names.map((name) => variable(name, name === 'own' ? 'personal' : 'trunk'));
    const tensorsOf = (values: readonly number[]) =>
      new Map(names.map((name) => [name, { shape: [2], values: Float32Array.from(values) }]));
    const params = { ...parameters([], [4, 8]), dense: tensorsOf([10, -2]) };
    const gradient = { ...gradients([], [1], [1]), dense: tensorsOf([1, 1]) };
    const stage = addRidge(0.5, variables);
    const [{ dense, rows }] = stage.update(gradient, stage.init(params), params);
    // x: 1 + 0.5 * 10, 1 + 0.5 * -2
    expect([...dense.values()].map(({ values }) => [...values])).toEqual([
      ...[[6, 0]],
      ...[[1, 1]],
      ...[[1, 1]],
      ...[[1, 1]],
    ]);
    expect([...(rows.get('t')?.values ?? [])]).toEqual([1]);
  });

  it.each(['adam', 'sgd'])('has %s end at the minimum of loss and penalty', (kind) => {
    const outerSteps = 2_000;
    const optimizer = { kind, rate: kind === 'adam' ? 0.05 : 0.1 };
    const schedule = { decay: 'cosine' };
    const training = TrainingConfigSchema.parse({ outerSteps, optimizer, schedule, ridge: 6 });
    const stages = metaOptimizerOf(training, [variable('x')]);
    const metaParameters = parameters(parabola.start);
    let state: TrainingState = {
      ...{ outerStep: 0, metaParameters, optimizer: stages.init(metaParameters), computedOn: [] },
    };
    const xOf = () => [...(state.metaParameters.dense.get('x')?.values ?? [])];
    for (let step = 0; step < outerSteps; step += 1)
      state = steppedState(stages, state, gradients(parabola.gradient(xOf())));
    // (x - i)^2 + 3 x^2 is lowest at i / 4.
    for (const [index, value] of xOf().entries()) expect(value).toBeCloseTo((index + 1) / 4, 3);
  });
});

describe('the schedule', () => {
  const rise = { warmupOuterSteps: 4, decay: 'none', finalShare: 0 } as const;

  it('rises linearly to 1 and stays there', () => {
    expect([0, 1, 2, 3, 4, 9].map((step) => rateShareAt(step, rise, 10))).toEqual([
      0.25, 0.5, 0.75, 1, 1, 1,
    ]);
  });

  it('falls linearly to the final share', () => {
    const schedule = { warmupOuterSteps: 2, decay: 'linear', finalShare: 0.2 } as const;
    // From step 2 to 10: 1 - 0.8 * (step - 2) / 8
    expect([2, 6, 10, 11].map((step) => rateShareAt(step, schedule, 10))).toEqual(
      close([1, 0.6, 0.2, 0.2]),
    );
  });

  it('takes the final share of a step after a plateau, and does not rise again', () => {
    const schedule = { decay: 'plateau', finalShare: 0.25 } as const;
    const optimizer = { kind: 'sgd', rate: 1, momentum: 0 };
    const training = TrainingConfigSchema.parse({ optimizer, schedule, earlyStopping: {} });
    const stages = metaOptimizerOf(training, []);
    const start = parameters([0], []);
    const stepOf = (state: OptimizerState): number | undefined => {
      const [updates] = stages.update(gradients([1]), state, start);
      return updates.dense.get('x')?.values[0];
    };
    const first = stages.init(start);
    expect(stepOf(first)).toBe(-1);
    const lowered = afterPlateaus(first, training.schedule, 1);
    expect(stepOf(lowered)).toBe(-0.25);
    // Appended logs begin a new list of scores.
    expect(stepOf(afterPlateaus(lowered, training.schedule, 0))).toBe(-0.25);
    const { schedule: of } = training;
    expect([14, 15].map((step) => rateShareAt(step, of, 20))).toEqual([1, 0.25]);
  });

  it.each([
    [{ decay: 'plateau', finalShare: 0.25 }, undefined, 'set earlyStopping'],
    [{ decay: 'plateau' }, {}, 'finalShare above 0'],
  ])('%j with earlyStopping %j is refused', (schedule, earlyStopping, message) => {
    const found = TrainingConfigSchema.safeParse({ schedule, earlyStopping });
    expect(found.error?.message).toContain(message);
  });

  it('falls along half a cosine to the final share', () => {
    const schedule = { warmupOuterSteps: 0, decay: 'cosine', finalShare: 0 } as const;
    // (1 + cos(pi / 4)) / 2 = 0.853553
    expect([0, 2, 4, 8].map((step) => rateShareAt(step, schedule, 8))).toEqual(
      close([1, 0.853553, 0.5, 0]),
    );
  });
});

it('chain feeds each stage the updates of the previous one and keeps their states separate', () => {
  const stages = chain(clipByGlobalNorm(5), accumulateMomentum(0.5));
  const params = parameters([0, 0], []);
  // Norm 10 -> factor 0.5 -> velocity [3, 4]
  const [updates, state] = stages.update(gradients([6, 8]), stages.init(params), params);
  expect(valuesOf(updates).x).toEqual([3, 4]);
  expect(Object.keys(state.scalars)).toEqual(['clip.gradientNorm']);
  expect([...state.dense.keys()]).toEqual(['momentum.velocity/x']);
});

describe('steppedState', () => {
  const optimizer = metaOptimizerOf(
    TrainingConfigSchema.parse({ optimizer: { kind: 'sgd', rate: 0.5 }, gradientNormMax: 100 }),
    [],
  );

  it('moves variables and touched rows and counts the outer step', () => {
    const metaParameters = parameters([1, 2], [1, 2, 3, 4], 2);
    const state: TrainingState = {
      outerStep: 3,
      metaParameters,
      optimizer: optimizer.init(metaParameters),
      computedOn: [],
    };
    const stepped = steppedState(optimizer, state, gradients([2, 4], [1], [2, -2]));
    // x: [1, 2] - 0.5 * [2, 4]; row 1: [3, 4] - 0.5 * [2, -2]
    expect(stepped.outerStep).toBe(4);
    expect([...(stepped.metaParameters.dense.get('x')?.values ?? [])]).toEqual([0, 0]);
    expect([...(stepped.metaParameters.tables.get('t')?.values ?? [])]).toEqual([1, 2, 2, 5]);
    expect([...(metaParameters.dense.get('x')?.values ?? [])]).toEqual([1, 2]);
  });
});
