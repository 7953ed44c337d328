/**
 * Inner rates finer than one number: factors r of the inner rate,
 *
 *   phi <- phi - r .* (innerRate * grad L(phi ; S))
 *
 * by block or by parameter, and by step where wanted. Fixed by the config, or learned in the outer
 * loop as variables `rates/NAME`, 1 times the config's factor at the beginning.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Variable } from '../../tensors/variable.js';
import type { AdaptingTasks, Blocks, InnerLoop, InnerStep } from './inner-loop.js';
import type { MethodPlan, ModelShape, SettingMisfit } from './method.js';
import { blockOf, unknownBlockMisfits } from './personal-blocks.js';

interface RateFactors {
  readonly [block: string]: number;
}

const rateFactors = z.record(z.string(), z.number().positive().max(1000)).default({});

/** The settings of methods whose rates are fixed. */
export const fixedRateSettings = {
  rateFactors: rateFactors.describe(
    'Factors of `innerRate` by personal block, as in `{ output: 0.1 }`; 1 for the others.',
  ),
};

/** The parameters that share a learned rate. */
export const rateGranularity = z
  .enum(['global', 'block', 'parameter'])
  .describe(
    'Which parameters share a learned rate: all of them, those of a personal block, or none.',
  );

export const learnedRateSettings = {
  rateFactors: rateFactors.describe(
    'Initial factors of the learned rates by personal block; 1 for the others. With `rates: global` they multiply the one learned rate.',
  ),
  clampsRates: z
    .boolean()
    .default(false)
    .describe(
      'Uses 0 in place of a learned rate that is negative. Otherwise such a rate climbs the loss.',
    ),
};

interface LearnedRates {
  readonly rates: z.infer<typeof rateGranularity>;
  readonly rateFactors: RateFactors;
  readonly clampsRates: boolean;
  /** Each of this many steps has rates of its own; null: all steps have the same. */
  readonly stepCount: number | null;
}

export function fixedRates(factors: RateFactors): Pick<InnerLoop, 'step'> {
  if (Object.keys(factors).length === 0) return {};
  return {
    step: {
      blocksAfter: (tasks, step) =>
        moved(tasks, step, (name, gradient) => timesFactor(tasks, factors, name, gradient)),
      differsByStep: false,
    },
  };
}

function timesFactor(
  { tf }: AdaptingTasks,
  factors: RateFactors,
  name: string,
  gradient: tfjs.Tensor,
): tfjs.Tensor {
  const factor = factors[blockOf(name)];
  return factor === undefined ? gradient : tf.mul(gradient, factor);
}

/** The step along learned rates, and the variables that hold them. */
export function learnedRates(
  rates: LearnedRates,
): Required<Pick<InnerLoop, 'step'> & Pick<MethodPlan, 'variables'>> {
  const { stepCount, clampsRates } = rates;
  return {
    step: {
      blocksAfter: (tasks, step) => {
        const { tf } = tasks;
        return moved(tasks, step, (name, gradient) => {
          let rate = tasks.variable(rateNameOf(rates, name));
          if (stepCount !== null) {
            // `[1, ...shape]`, which the tasks of `[taskCount, ...shape]` share.
            const [, ...shape] = rate.shape;
            rate = tf.slice(rate, [step.stepIndex, ...shape.map(() => 0)], [1, ...shape]);
          }
          const rated = tf.mul(gradient, clampsRates ? tf.relu(rate) : rate);
          // One rate for all blocks begins for none of them with a factor of its own.
          return rates.rates === 'global'
            ? timesFactor(tasks, rates.rateFactors, name, rated)
            : rated;
        });
      },
      differsByStep: stepCount !== null,
    },
    variables: (model) => rateVariables(rates, model),
  };
}

export function rateFactorMisfits(
  { rateFactors: factors }: { readonly rateFactors: RateFactors },
  personal: readonly string[],
): SettingMisfit[] {
  return unknownBlockMisfits('rateFactors', factors, personal);
}

/** Blocks minus what `rated` makes of each scaled gradient. */
export function moved(
  { tf, personal }: AdaptingTasks,
  { blocks, scaledGradients }: InnerStep,
  rated: (name: string, gradient: tfjs.Tensor) => tfjs.Tensor,
): Blocks {
  return Object.fromEntries(
    personal.map((name) => {
      const [block, gradient] = [blocks[name], scaledGradients[name]];
      if (block === undefined || gradient === undefined) throw new Error(`no block ${name}`);
      return [name, tf.sub(block, rated(name, gradient))];
    }),
  );
}

function rateNameOf({ rates }: LearnedRates, variableName: string): string {
  if (rates === 'global') return 'rates/all';
  return `rates/${rates === 'block' ? blockOf(variableName) : variableName}`;
}

function rateVariables(rates: LearnedRates, model: ModelShape): Variable[] {
  const variables = new Map<string, Variable>();
  for (const { name: of, shape, block } of model.variables) {
    if (block !== 'personal') continue;
    const name = rateNameOf(rates, of);
    const own = rates.rates === 'parameter' ? shape : [1];
    const value = rates.rates === 'global' ? 1 : (rates.rateFactors[blockOf(of)] ?? 1);
    variables.set(name, {
      name,
      shape: rates.stepCount === null ? own : [rates.stepCount, ...own],
      block: 'method',
      initial: { kind: 'constant', value },
    });
  }
  return [...variables.values()];
}
