/** The meta-optimizer of a run: its stages from the config, and the step that applies them. */

import type { TrainingConfig } from '../../../shared/config/training-config.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import {
  chain,
  type GradientTransformation,
  type MetaGradient,
  type RowGradient,
} from './gradient-transformation.js';
import type { TrainingState } from '../../checkpoints/training-state.js';
import { scaleByAdam } from './adam.js';
import {
  accumulateMomentum,
  addRidge,
  clipByGlobalNorm,
  keepTrainable,
  scaleBySchedule,
} from './stages.js';
import { addDecoupledWeightDecay } from './decoupled-weight-decay.js';

/** Builds the stages in the order of AdamW: trainable, clipping, ridge, direction, weight decay, rate. */
export function metaOptimizerOf(
  training: TrainingConfig,
  variables: ModelSpec['variables'],
): GradientTransformation {
  const { optimizer, ridge } = training;
  return chain(
    keepTrainable(training.trainable, variables),
    clipByGlobalNorm(training.gradientNormMax),
    ...(ridge === undefined ? [] : [addRidge(ridge, variables)]),
    optimizer.kind === 'adam' ? scaleByAdam(optimizer) : accumulateMomentum(optimizer.momentum),
    addDecoupledWeightDecay(training.weightDecay, variables, training.tableWeightDecay),
    scaleBySchedule(optimizer.rate, training.schedule, training.outerSteps),
  );
}

/** Whether an outer step writes to rows that no task has touched. */
export function movesUntouchedRows({ optimizer }: TrainingConfig): boolean {
  return optimizer.kind === 'adam' && !optimizer.lazy;
}

/** Applies one outer step. Table rows are written in place (see `gradient-transformation.ts`). */
export function steppedState(
  optimizer: GradientTransformation,
  state: TrainingState,
  gradient: MetaGradient,
): TrainingState {
  const [updates, renewed] = optimizer.update(gradient, state.optimizer, state.metaParameters);
  return {
    ...state,
    outerStep: state.outerStep + 1,
    metaParameters: withUpdates(state.metaParameters, updates),
    optimizer: renewed,
  };
}

/**
 * Adds updates to parameters: dense variables are replaced, touched table rows are written in
 * place.
 */
function withUpdates(params: MetaParameters, updates: MetaGradient): MetaParameters {
  const dense = new Map(
    [...params.dense].map(([name, tensor]) => {
      const { shape, values } = tensor;
      const update = updates.dense.get(name)?.values;
      // Dense tensors are never written to, so one may belong to several states.
      if (update === undefined) return [name, tensor];
      return [name, { shape, values: summed(values, update) }];
    }),
  );
  for (const [name, table] of params.tables) {
    const update = updates.rows.get(name);
    if (update !== undefined) addRows(table, update);
  }
  return { dense, tables: params.tables };
}

function summed(values: Float32Array, addends: Float32Array): Float32Array {
  const sums = new Float32Array(values);
  for (let i = 0; i < sums.length; i += 1) sums[i] = (sums[i] ?? NaN) + (addends[i] ?? NaN);
  return sums;
}

function addRows({ width, values }: EmbeddingTable, { ids, values: addends }: RowGradient): void {
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.add(values, width, ids, addends);
    return;
  }
  let from = 0;
  for (const id of ids) {
    let to = id * width;
    for (const end = to + width; to < end; to += 1, from += 1)
      values[to] = (values[to] ?? NaN) + (addends[from] ?? NaN);
  }
}
