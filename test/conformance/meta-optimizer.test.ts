/**
 * The contract of every meta-optimizer: it finds minima, treats full rows like dense variables, and
 * resumes from its state.
 */

import { describe, expect, it } from 'vitest';
import { metaOptimizerOf, steppedState } from '../../coordinator/training/meta-optimizer.js';
import type { TrainingState } from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { TrainingConfigSchema } from '../../shared/config/training-config.js';
import { randomStream } from '../../shared/base/random.js';
import {
  gradients,
  parabola,
  parameters,
  rosenbrock,
  type Problem,
} from '../fixtures/optimizer-problem.js';

const optimizers = {
  adam: { optimizer: { kind: 'adam', rate: 0.01 } },
  'adam with warm-up and cosine': {
    optimizer: { kind: 'adam', rate: 0.1 },
    schedule: { warmupOuterSteps: 50, decay: 'cosine', finalShare: 0.01 },
  },
  sgd: { optimizer: { kind: 'sgd', rate: 0.0015 } },
  'sgd with momentum': { optimizer: { kind: 'sgd', rate: 0.0005, momentum: 0.9 } },
  'sgd with linear decay': {
    optimizer: { kind: 'sgd', rate: 0.003 },
    schedule: { decay: 'linear', finalShare: 0.5 },
  },
};
const problems: Record<string, { problem: Problem; outerSteps: number }> = {
  parabola: { problem: parabola, outerSteps: 3000 },
  Rosenbrock: { problem: rosenbrock, outerSteps: 20_000 },
};

function optimizerOf(config: object, outerSteps: number): ReturnType<typeof metaOptimizerOf> {
  return metaOptimizerOf(TrainingConfigSchema.parse({ outerSteps, ...config }), []);
}

function started(
  optimizer: ReturnType<typeof metaOptimizerOf>,
  x: readonly number[],
  t: readonly number[],
): TrainingState {
  const metaParameters = parameters(x, t);
  return {
    outerStep: 0,
    metaParameters,
    optimizer: optimizer.init(metaParameters),
    computedOn: [],
  };
}

const xOf = (state: TrainingState): number[] => [
  ...(state.metaParameters.dense.get('x')?.values ?? []),
];
const tOf = (state: TrainingState): number[] => [
  ...(state.metaParameters.tables.get('t')?.values ?? []),
];

describe.each(Object.entries(optimizers))('%s', (_name, config) => {
  it.each(Object.entries(problems))(
    'finds the minimum of %s, on dense variables and on rows',
    (_problemName, { problem, outerSteps }) => {
      const optimizer = optimizerOf(config, outerSteps);
      let state = started(optimizer, problem.start, problem.start);
      const ids = problem.start.map((_, id) => id);
      for (let step = 0; step < outerSteps; step += 1) {
        const gradient = gradients(problem.gradient(xOf(state)), ids, problem.gradient(tOf(state)));
        state = steppedState(optimizer, state, gradient);
      }
      for (const [index, expected] of problem.minimum.entries()) {
        expect(xOf(state)[index]).toBeCloseTo(expected, 2);
        // Lazy rows equal dense variables when every row is touched.
        expect(tOf(state)[index]).toBe(xOf(state)[index]);
      }
    },
  );

  it('continues from a copy of its state without a difference', () => {
    const optimizer = optimizerOf(config, 20);
    const stream = randomStream(3, 'optimizer test');
    const steps = Array.from({ length: 20 }, () => {
      const ids = [0, 1, 2, 3, 4].filter(() => stream.uniform() < 0.5);
      return gradients(
        [stream.normal(), stream.normal()],
        ids,
        ids.map(() => stream.normal()),
      );
    });
    let straight = started(optimizer, [1, -1], [5, 4, 3, 2, 1]);
    let resumed = started(optimizer, [1, -1], [5, 4, 3, 2, 1]);
    for (const [step, gradient] of steps.entries()) {
      // A step may write to its gradient.
      const same = structuredClone(gradient);
      straight = steppedState(optimizer, straight, gradient);
      resumed = steppedState(optimizer, step === 10 ? structuredClone(resumed) : resumed, same);
    }
    expect(resumed).toEqual(straight);
  });

  it('does not move untouched rows', () => {
    const optimizer = optimizerOf({ ...config, weightDecay: 0.5 }, 20);
    let state = started(optimizer, [1], [5, 4, 3]);
    for (let step = 0; step < 5; step += 1)
      state = steppedState(optimizer, state, gradients([1], [1], [1]));
    expect(tOf(state)).toEqual([5, expect.any(Number), 3]);
    expect(tOf(state)[1]).toBeLessThan(4);
  });
});
