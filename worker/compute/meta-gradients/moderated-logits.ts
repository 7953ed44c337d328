/**
 * Blocks with variances s predict the mean over their posterior. Where the logit z is linear in them with slopes j, it is
 * taken for normal with variance v = sum_k s_k j_k^2, and the expected probability of a click is that of the moderated logit.
 * Covariances are left out: trained through, features come out that lose next to nothing, and blocks stay small.
 *
 * The mean of a value is z whatever its variance.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type {
  AdaptingTasks,
  InnerLoop,
  SupportCurvature,
} from '../../../shared/methods/inner-loop/inner-loop.js';
import {
  CROWD_MODES,
  CROWD_VARIANCES,
  personalVariables,
  VARIANCES,
} from '../../../shared/methods/inner-loop/personal-blocks.js';
import {
  MODERATED_LOGIT_MAX,
  NORMAL_NODES,
  NORMAL_WEIGHTS,
} from '../../../shared/methods/inner-loop/moderated-logit.js';
import { placeCountsOf } from '../models/device-tasks.js';
import { type TrunkPass, type Variables, variableOf } from '../models/fields.js';
import { TRUNK_LOGITS } from '../models/forward.js';
import { logitsOf, named, rowVariances, type RowsWithTrunk, type TensorsByName } from './passes.js';

/** Below the least variance that moves a logit; the root of 0 has no gradient. */
const VARIANCE_MIN = 1e-6;

/**
 * Personal blocks as rows are scored with them: with variances where the method has them.
 *
 * @param rows the support rows; null where tasks have none, or know none of them yet
 */
export function scoredState(
  loop: InnerLoop,
  tasks: AdaptingTasks,
  state: TensorsByName,
  { rows, rates }: { readonly rows: RowsWithTrunk | null; readonly rates: tfjs.Tensor1D },
): TensorsByName {
  if (loop.variances === undefined) return state;
  const supportCurvature = rows === null ? null : curvatureOf(rows, blocksIn(rows, state));
  return { ...state, [VARIANCES]: loop.variances(tasks, { rates, supportCurvature }) };
}

/** Logits `[taskCount, rowExtent]` under a scored state. */
export function scoredLogits(rows: RowsWithTrunk, state: TensorsByName): tfjs.Tensor2D {
  const blocks = blocksIn(rows, state);
  const logits = logitsOf(rows, blocks);
  const ofParameters = state[VARIANCES];
  if (ofParameters === undefined) return logits;
  const { tf } = rows.pass.job.engine;
  const squares = tf.square(slopesOf(rows, blocks));
  const ofTasks = tf.squeeze(tf.matMul(squares, tf.expandDims(ofParameters, 2)), [2]);
  const ofCrowds = rows.trunk[CROWD_VARIANCES];
  const variances = ofCrowds === undefined ? ofTasks : tf.add(ofTasks, ofCrowds);
  const { squared } = rows.pass.data;
  const ofClicks =
    squared === undefined
      ? variances
      : tf.mul(variances, tf.sub(1, tf.step(squared.impressionShares)));
  return moderated(tf, logits, ofClicks);
}

/**
 * The logits of the expected probabilities (`moderated-logit.ts` states the quadrature). Logits beyond the bound keep their gradient.
 *
 * @param logits and variances, `[taskCount, rowExtent]`
 */
function moderated(tf: typeof tfjs, logits: tfjs.Tensor2D, variances: tfjs.Tensor): tfjs.Tensor2D {
  const inner = tf.clipByValue(logits, -MODERATED_LOGIT_MAX, MODERATED_LOGIT_MAX);
  const deviations = tf.sqrt(tf.add(variances, VARIANCE_MIN));
  const atNodes = tf.add(
    tf.expandDims(inner, 2),
    tf.mul(tf.expandDims(deviations, 2), tf.tensor1d([...NORMAL_NODES])),
  );
  const weights = tf.tensor1d([...NORMAL_WEIGHTS]);
  const expected = (z: tfjs.Tensor): tfjs.Tensor =>
    tf.log(tf.sum(tf.mul(tf.sigmoid(z), weights), 2));
  const odds = tf.sub(expected(atNodes), expected(tf.neg(atNodes)));
  return tf.add(tf.sub(logits, inner), odds);
}

/** Rows as what a block is fitted on: a logit is that under a state plus the product of slopes and the move of the block. */
export type RowFeatures = {
  /** `[taskCount, rowExtent, count]` */
  readonly slopes: tfjs.Tensor3D;
  /** `[taskCount, rowExtent]` */
  readonly logits: tfjs.Tensor2D;
};

export function featuresOf(rows: RowsWithTrunk, state: TensorsByName): RowFeatures {
  const blocks = blocksIn(rows, state);
  return { slopes: slopesOf(rows, blocks), logits: logitsOf(rows, blocks) };
}

/**
 * The trunk pass with the blocks of crowds in it: tasks adapt to, and are scored above, what the crowd of a row adds to its
 * logit. The variances that blocks of crowds give the logits are handed over, too.
 */
export function withCrowds({ pass, trunk }: RowsWithTrunk): TrunkPass {
  const { job, data } = pass;
  const { crowds } = data;
  if (crowds === undefined) return trunk;
  const { tf, kernels } = job.engine;
  const { taskCount, rowExtent } = placeCountsOf(data);
  const shared = personalVariables(job.spec).map(({ name }): [string, tfjs.Tensor] => [
    name,
    tf.expandDims(variableOf(job.dense, name), 0),
  ]);
  const slopes = slopesOf({ pass, trunk }, new Map(shared));
  const weighed = (by: tfjs.Tensor3D, name: string): tfjs.Tensor => {
    const ofRows = kernels.gatherRows(variableOf(job.dense, name) as tfjs.Tensor2D, crowds);
    return tf.sum(tf.mul(by, tf.reshape(ofRows, [taskCount, rowExtent, -1])), 2);
  };
  const logits = trunk[TRUNK_LOGITS];
  if (logits === undefined) throw new Error('a trunk pass hands over the logits');
  return {
    ...trunk,
    [TRUNK_LOGITS]: tf.add(logits, weighed(slopes, CROWD_MODES)),
    [CROWD_VARIANCES]: weighed(tf.square(slopes), CROWD_VARIANCES),
  };
}

function blocksIn({ pass }: RowsWithTrunk, state: TensorsByName): Variables {
  return new Map(personalVariables(pass.job.spec).map(({ name }) => [name, named(state, name)]));
}

/** The second derivative of the support losses at some blocks. */
export function curvatureOf(rows: RowsWithTrunk, blocks: Variables): SupportCurvature {
  const { job, data } = rows.pass;
  const { tf } = job.engine;
  const isRow = tf.expandDims(tf.step(data.impressionShares), 2);
  return {
    slopes: tf.mul(slopesOf(rows, blocks), isRow),
    variances: rowVariances(tf, logitsOf(rows, blocks), data) as tfjs.Tensor2D,
  };
}

/**
 * The slopes of each row's logit, `[taskCount, rowExtent, count]`: with each row as a task of its own, they are the gradient
 * of the sum of all logits.
 */
function slopesOf({ pass, trunk }: RowsWithTrunk, blocks: Variables): tfjs.Tensor3D {
  const { tf, kernels } = pass.job.engine;
  const { taskCount, rowExtent, placeCount } = placeCountsOf(pass.data);
  const names = [...blocks.keys()];
  const trunkByRow = Object.fromEntries(
    Object.entries(trunk).map(([name, x]) => [
      name,
      tf.reshape(x, [placeCount, 1, ...x.shape.slice(2)]),
    ]),
  );
  const gradients = tf.grads((...tensors: tfjs.Tensor[]) => {
    const own = new Map(names.map((name, index) => [name, tensors[index] as tfjs.Tensor]));
    return logitsOf({ pass, trunk: trunkByRow }, own);
  })(
    [...blocks.values()].map(({ shape }) =>
      kernels.repeatByTask(tf.zeros(shape.slice(1)), placeCount),
    ),
  );
  return tf.concat(
    gradients.map((gradient) => tf.reshape(gradient, [taskCount, rowExtent, -1])),
    2,
  );
}
