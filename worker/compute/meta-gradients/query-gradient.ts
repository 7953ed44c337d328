/** The gradient of the query losses at given blocks, however these were found. */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { blocksOf, type LoopState } from './inner-loop.js';
import { shiftedBy } from './shift-by-level.js';
import { gradientsOf, packIn, type TensorsByName } from './tensors-by-name.js';
import {
  learnedInputs,
  logitsOf,
  lossesOf,
  withTrunk,
  type JobTensors,
  type Pass,
} from './passes.js';

interface QueryGradientAt {
  /** The gradient of shared variables, with the blocks taken as constants. */
  readonly dense: TensorsByName;
  readonly rows: tfjs.Tensor2D | null;
  /** The gradient of each task's own blocks, `[taskCount, ...shape]`. */
  readonly blocks: TensorsByName;
  readonly losses: tfjs.Tensor1D;
}

/** Adapted tasks: the rows they have and the state their steps ended in. */
interface AdaptedRows {
  readonly support: Pass | null;
  readonly query: Pass;
  readonly state: LoopState;
}

/** @param weights of the tasks, `[taskCount]`. */
export function queryGradientAt(
  job: JobTensors,
  { shift }: InnerLoop,
  { support, query, state }: AdaptedRows,
  weights: tfjs.Tensor1D,
): QueryGradientAt {
  const blocks = blocksOf(adaptingTasksOf(job), state);
  const compute = (): tfjs.Tensor[] => {
    const basis =
      shift !== null && support !== null
        ? { support, logits: logitsOf(withTrunk(support), blocks) }
        : null;
    const logits = logitsOf(withTrunk(query), blocks);
    return [lossesOf(query, shiftedBy(shift, basis, query, logits))];
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
