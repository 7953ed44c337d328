/** The meta-optimizer of a run: its stages from the config, and the step that applies them. */

import type { TrainingConfig } from '../../../shared/config/training-config.js';
import type { MetaParameters } from '../../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import {
  asTable,
  chain,
  forEachUpdate,
  type GradientTransformation,
  type MetaGradient,
  type RowGradient,
} from './gradient-transformation.js';
import type { TrainingState } from '../../checkpoints/training-state.js';
import {
  accumulateMomentum,
  addDecoupledWeightDecay,
  addRidge,
  clipByGlobalNorm,
  keepTrainable,
  scaleByAdam,
  scaleBySchedule,
} from './stages.js';

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

/** Adds updates to parameters: dense variables are replaced, touched table rows are written in place. */
function withUpdates({ dense, tables }: MetaParameters, updates: MetaGradient): MetaParameters {
  // Dense tensors are never written to, so one may belong to several states.
  const moved = new Map(dense);
  forEachUpdate(updates, (update, name, isDense) => {
    if (!isDense) {
      const table = tables.get(name);
      if (table !== undefined) addRows(table, update);
      return;
    }
    const tensor = dense.get(name);
    if (tensor === undefined) return;
    const values = tensor.values.slice();
    addRows(asTable({ values }), update);
    moved.set(name, { ...tensor, values });
  });
  return { dense: moved, tables };
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
