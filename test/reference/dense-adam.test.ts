/** Dense Adam on table rows against the textbook algorithm, written for one number at a time. */

import { describe, expect, test } from 'vitest';
import { scaleByAdam } from '../../coordinator/training/meta-optimizer/adam.js';
import {
  metaOptimizerOf,
  steppedState,
} from '../../coordinator/training/meta-optimizer/meta-optimizer.js';
import type { TrainingState } from '../../coordinator/checkpoints/training-state.js';
import { TrainingConfigSchema } from '../../shared/config/training-config.js';
import { randomStream } from '../../shared/base/random.js';
import { gradients, parameters, valuesOf } from '../fixtures/optimizer-problem.js';

const ROW_COUNT = 7;
const WIDTH = 3;

interface Moments {
  m: number;
  v: number;
}

/**
 * Kingma and Ba, algorithm 1. With epsilon on the raw moment it is the form at the end of their
 * section 2.
 */
function textbookStep(
  moments: Moments,
  gradient: number,
  t: number,
  epsilonOn: 'corrected' | 'raw',
): number {
  moments.m = Math.fround(0.9 * moments.m + (1 - 0.9) * gradient);
  moments.v = Math.fround(0.999 * moments.v + (1 - 0.999) * gradient ** 2);
  const { m, v } = moments;
  if (epsilonOn === 'raw')
    return (0.01 * Math.sqrt(1 - 0.999 ** t) * m) / (1 - 0.9 ** t) / (Math.sqrt(v) + 1e-3);
  return (0.01 * (m / (1 - 0.9 ** t))) / (Math.sqrt(v / (1 - 0.999 ** t)) + 1e-3);
}

describe.each(['corrected', 'raw'] as const)('with epsilon on the %s moment', (epsilonOn) => {
  test('every row that was ever touched moves at every step, as in the textbook', () => {
    const stream = randomStream(1, 'dense adam');
    const { optimizer } = TrainingConfigSchema.parse({
      optimizer: { kind: 'adam', rate: 0.01, epsilon: 1e-3, epsilonOn, lazy: false },
    });
    const training = TrainingConfigSchema.parse({ optimizer, gradientNormMax: 1e9 });
    const chain = metaOptimizerOf(training, []);
    const start = Array.from({ length: ROW_COUNT * WIDTH }, () => stream.normal());
    const metaParameters = parameters([0], start, WIDTH);
    let state: TrainingState = {
      outerStep: 0,
      metaParameters,
      optimizer: chain.init(metaParameters),
      computedOn: [],
    };
    const expected = Float32Array.from(start);
    const moments = start.map((): Moments => ({ m: 0, v: 0 }));
    for (let t = 1; t <= 60; t += 1) {
      // The last row is never touched, the first only once.
      const ids = Array.from({ length: ROW_COUNT - 1 }, (_, id) => id).filter((id) =>
        id === 0 ? t === 5 : stream.uniform() < 0.4,
      );
      const rows = ids.flatMap(() => Array.from({ length: WIDTH }, () => stream.normal()));
      const gradient = gradients([0], ids, rows);
      const given = gradient.rows.get('t')?.values ?? new Float32Array();
      for (const [at, moment] of moments.entries()) {
        const place = ids.indexOf(Math.floor(at / WIDTH));
        const g = place < 0 ? 0 : (given[place * WIDTH + (at % WIDTH)] ?? 0);
        expected[at] = (expected[at] ?? 0) - textbookStep(moment, g, t, epsilonOn);
      }
      state = steppedState(
        chain,
        // A resume has only the state.
        t === 30 ? structuredClone(state) : state,
        gradient,
      );
    }
    const found = state.metaParameters.tables.get('t')?.values ?? new Float32Array();
    for (const [at, value] of expected.entries()) expect(found[at]).toBeCloseTo(value, 5);
    expect([...found.subarray(-WIDTH)]).toEqual([...Float32Array.from(start).subarray(-WIDTH)]);
  });
});

test('rounds to float32 only when a value is stored, bit for bit', () => {
  const training = TrainingConfigSchema.parse({
    optimizer: { kind: 'adam', rate: 0.01, epsilon: 1e-3, lazy: false },
    gradientNormMax: 1e9,
  });
  const chain = metaOptimizerOf(training, []);
  const stream = randomStream(2, 'dense adam, bit for bit');
  // Starting from 0, small values show every bit of a step.
  const start = new Float32Array(ROW_COUNT * WIDTH);
  const metaParameters = parameters([0], [...start], WIDTH);
  let state: TrainingState = {
    outerStep: 0,
    metaParameters,
    optimizer: chain.init(metaParameters),
    computedOn: [],
  };
  const expected = new Float32Array(start);
  const moments = [...start].map((): Moments => ({ m: 0, v: 0 }));
  let [firstPower, secondPower] = [1, 1];
  for (let t = 1; t <= 40; t += 1) {
    const ids = Array.from({ length: ROW_COUNT }, (_, id) => id).filter(
      () => stream.uniform() < 0.3,
    );
    const rows = ids.flatMap(() => Array.from({ length: WIDTH }, () => stream.normal()));
    const gradient = gradients([0], ids, rows);
    const given = gradient.rows.get('t')?.values ?? new Float32Array();
    [firstPower, secondPower] = [firstPower * 0.9, secondPower * 0.999];
    for (const [at, moment] of moments.entries()) {
      const place = ids.indexOf(Math.floor(at / WIDTH));
      const g = place < 0 ? 0 : (given[place * WIDTH + (at % WIDTH)] ?? 0);
      moment.m = Math.fround(0.9 * moment.m + (1 - 0.9) * g);
      moment.v = Math.fround(0.999 * moment.v + (1 - 0.999) * g * g);
      const root = Math.sqrt(moment.v / (1 - secondPower));
      const direction = Math.fround(moment.m / (1 - firstPower) / (root + 1e-3));
      expected[at] = (expected[at] ?? 0) + Math.fround(direction * -0.01);
    }
    state = steppedState(chain, state, gradient);
  }
  expect(state.metaParameters.tables.get('t')?.values).toEqual(expected);
});

test('a row stops once its first moment is below the smallest normal number', () => {
  const adam = scaleByAdam({
    firstMomentDecay: 0.5,
    secondMomentDecay: 0.999,
    epsilon: 1e-8,
    lazy: false,
  });
  const params = parameters([0], [0, 0]);
  let [updates, state] = adam.update(gradients([0], [0], [1]), adam.init(params), params);
  const movingRows = (): number[] => [...(updates.rows.get('t')?.ids ?? [])];
  for (let step = 2; step <= 125; step += 1)
    [updates, state] = adam.update(gradients([0]), state, params);
  expect(movingRows()).toEqual([0]);
  // 0.5^126 is still 2^-126; half of it is flushed to zero.
  for (let step = 126; step <= 128; step += 1)
    [updates, state] = adam.update(gradients([0]), state, params);
  expect(movingRows()).toEqual([]);
  expect(state.tables.get('adam.secondMoment/t')?.values[0]).toBeCloseTo(0.001 * 0.999 ** 127, 9);
  // The next gradient moves it again, with the second moment it has kept.
  [updates, state] = adam.update(gradients([0], [0], [2]), state, params);
  expect(valuesOf(updates).t).toEqual([
    expect.closeTo(1 / Math.sqrt((0.001 * 0.999 ** 128 + 0.004) / (1 - 0.999 ** 129)), 5),
  ]);
});
