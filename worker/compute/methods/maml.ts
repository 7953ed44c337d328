/**
 * MAML of second order (Finn, Abbeel and Levine, ICML 2017):
 *
 *   phi_i(theta) = theta after innerSteps steps on S_i     (personal blocks; the trunk stays)
 *   g            = sum_i w_i * d/dtheta L(phi_i(theta) ; Q_i)
 *
 * with respect to everything that phi_i depends on: the personal blocks the steps began with, and
 * trunk and row pack, which shape the steps through the support rows as well.
 *
 * Two paths to the same gradient. `kept`: one tape over all inner steps, which holds what each of
 * them computed. `recomputed`: see `maml-stages.ts`. The cold share is that of FOMAML.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { pullBack } from '../engine/pull-back.js';
import { variableOf, type Variables } from '../models/fields.js';
import { withColdTerm } from './cold-term.js';
import { innerStep } from './inner-loop.js';
import { recomputedGradient, unadaptedGradient } from './maml-recomputed.js';
import { mamlStages, tidyStage, type MamlStages } from './maml-stages.js';
import {
  logitsOf,
  lossesOf,
  passOf,
  personalCopies,
  trunkOf,
  type JobTensors,
  type MethodResult,
  type Pass,
  type TaskWeights,
} from './method.js';

export interface MamlSettings {
  readonly innerSteps: number;
  readonly innerRate: number;
  readonly coldShare: number;
  readonly path: 'kept' | 'recomputed';
}

/** @param stages of the recomputed path, where they are captured functions. */
export function maml(
  job: JobTensors,
  taskWeights: TaskWeights,
  settings: MamlSettings,
  stages?: MamlStages,
): MethodResult {
  const { innerSteps, innerRate, coldShare, path } = settings;
  const { engine, spec } = job;
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  const warm = (weights: tfjs.Tensor1D): MethodResult => {
    if (query === null) return withoutQuery(support);
    if (path === 'kept' || support === null)
      return keptGradient(job, { support, query }, weights, settings);
    return recomputedGradient(stages ?? mamlStages(engine, spec, innerRate, tidyStage(engine)), {
      support,
      query,
      weights,
      innerSteps,
    });
  };
  return stages === undefined
    ? withColdTerm(job, taskWeights, coldShare, warm)
    : withColdTerm(job, taskWeights, coldShare, warm, (_, weights) =>
        unadaptedGradient(stages, job, weights),
      );
}

/** No gradient; the support loss is reported all the same. */
function withoutQuery(support: Pass | null): MethodResult {
  const supportLosses =
    support === null
      ? null
      : lossesOf(
          support,
          logitsOf(support, trunkOf(support), personalCopies(support.job, support.plan)),
        );
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses };
}

function keptGradient(
  job: JobTensors,
  { support, query }: { readonly support: Pass | null; readonly query: Pass },
  weights: tfjs.Tensor1D,
  settings: { readonly innerSteps: number; readonly innerRate: number },
): MethodResult {
  const { tf } = job.engine;
  const names = [...query.plan.trunk, ...query.plan.personal];
  const variables = names.map((name) => variableOf(job.dense, name));
  const compute = (): tfjs.Tensor[] => {
    const { personal, losses } = steppedBlocks(query, support, settings);
    const queryLosses = lossesOf(query, logitsOf(query, trunkOf(query), personal));
    return losses === null ? [queryLosses] : [queryLosses, losses];
  };
  const inputs = [...variables, ...(job.rows === null ? [] : [job.rows])];
  const { results, gradients } = pullBack(tf, compute, inputs, [weights]);
  const [queryLosses = null, supportLosses = null] = results as tfjs.Tensor1D[];
  return {
    gradients: new Map(
      names.map((name, place) => {
        const gradient = gradients[place] ?? null;
        if (gradient === null) throw new Error(`no gradient of ${name}`);
        return [name, gradient];
      }),
    ),
    // With a pack the last input is the pack.
    rowGradient: (gradients[names.length] ?? null) as tfjs.Tensor2D | null,
    queryLosses,
    supportLosses,
  };
}

/** The blocks after the inner steps, and the support losses before them. */
function steppedBlocks(
  { job, plan }: Pass,
  support: Pass | null,
  { innerSteps, innerRate }: { readonly innerSteps: number; readonly innerRate: number },
): { readonly personal: Variables; readonly losses: tfjs.Tensor1D | null } {
  let personal: Variables = personalCopies(job, plan);
  let losses: tfjs.Tensor1D | null = null;
  if (support === null) return { personal, losses };
  const shared = trunkOf(support);
  for (let step = 0; step < innerSteps; step += 1) {
    const moved = innerStep(support, shared, personal, innerRate);
    losses ??= moved.losses;
    personal = moved.personal;
  }
  return { personal, losses };
}
