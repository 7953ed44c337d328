/** The gradient of the query losses at given blocks, however these were found. */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { blocksOf, type LoopState } from './inner-loop.js';
import { shiftedBy } from './shift-by-level.js';
import { gradientsOf, packIn, type NamedTensors } from './named-tensors.js';
import {
  learnedInputs,
  logitsOf,
  lossesOf,
  trunkOf,
  type JobTensors,
  type Pass,
} from './passes.js';

export interface QueryGradientAt {
  /** Of shared variables, the blocks taken as they are. */
  readonly dense: NamedTensors;
  readonly rows: tfjs.Tensor2D | null;
  /** Of each task's own blocks, `[taskCount, ...shape]`. */
  readonly blocks: NamedTensors;
  readonly losses: tfjs.Tensor1D;
}

/** @param weights of the tasks, `[taskCount]`. */
export function queryGradientAt(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  query: Pass,
  state: LoopState,
  weights: tfjs.Tensor1D,
): QueryGradientAt {
  const blocks = blocksOf(adaptingTasksOf(job), state);
  const compute = (): tfjs.Tensor[] => {
    const evidence =
      loop.levelShift !== false && support !== null
        ? logitsOf(support, trunkOf(support), blocks)
        : null;
    const logits = logitsOf(query, trunkOf(query), blocks);
    return [lossesOf(query, shiftedBy(loop, support, evidence, query, logits))];
  };
  const inputs = { ...learnedInputs(job), blocks: Object.fromEntries(blocks) };
  const { results, gradients } = gradientsOf(job.engine.tf, compute, inputs, [weights]);
  return {
    dense: gradients.dense,
    rows: packIn(gradients.rows),
    blocks: gradients.blocks,
    losses: results[0] as tfjs.Tensor1D,
  };
}
