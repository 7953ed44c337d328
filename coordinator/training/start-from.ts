/**
 * The initial state of a run that begins where another ended, as for frozen bases and warm-up
 * phases. Everything that both runs have by name is copied. The rest has its initial values.
 */

import { QianmoError } from '../../shared/base/errors.js';
import { initialMetaParameters, type MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import { type DenseTensor, layoutDifferences } from '../../shared/tensors/named-tensors.js';
import type { GradientTransformation } from './meta-optimizer/gradient-transformation.js';
import type { OptimizerState, TrainingState } from '../checkpoints/training-state.js';
import { spreadOver } from '../../shared/base/arrays.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { clickRateOf } from '../scoring/held-out-rows.js';

export interface StartFrom {
  readonly metaParameters: MetaParameters;
  /** The optimizer state to continue with; the optimizer starts anew when absent. */
  readonly optimizer?: OptimizerState;
  /** The name of that run, for messages. */
  readonly where?: string;
}

/**
 * Copies the arrays, because a run writes its tables in place.
 *
 * @throws QianmoError `usage` when one name has two shapes.
 */
export function stateFrom(
  start: StartFrom,
  spec: ModelSpec,
  seed: number,
  optimizer: GradientTransformation,
): TrainingState {
  const initial = initialMetaParameters(spec, seed);
  const metaParameters: MetaParameters = {
    dense: takenOver(initial.dense, start.metaParameters.dense, start.where),
    tables: tablesTakenOver(initial.tables, start.metaParameters.tables, start.where),
  };
  const fresh = optimizer.init(metaParameters);
  if (start.optimizer === undefined)
    return { outerStep: 0, metaParameters, optimizer: fresh, computedOn: [] };
  const scalars = Object.entries(fresh.scalars).map(([name, value]) => [
    name,
    start.optimizer?.scalars[name] ?? value,
  ]);
  return {
    outerStep: 0,
    metaParameters,
    optimizer: {
      dense: takenOver(fresh.dense, start.optimizer.dense, start.where),
      tables: tablesTakenOver(fresh.tables, start.optimizer.tables, start.where),
      scalars: Object.fromEntries(scalars) as Record<string, number>,
    },
    computedOn: [],
  };
}

function takenOver(
  own: ReadonlyMap<string, DenseTensor>,
  other: ReadonlyMap<string, DenseTensor>,
  where: string | undefined,
): Map<string, DenseTensor> {
  return new Map(
    [...own].map(([name, tensor]) => {
      const found = other.get(name);
      if (found === undefined) return [name, tensor];
      requireSameShape(name, found, tensor, where);
      return [name, { shape: tensor.shape, values: new Float32Array(found.values) }];
    }),
  );
}

function tablesTakenOver(
  own: ReadonlyMap<string, EmbeddingTable>,
  other: ReadonlyMap<string, EmbeddingTable>,
  where: string | undefined,
): Map<string, EmbeddingTable> {
  const asTensor = ({ rowCount, width, values }: EmbeddingTable): DenseTensor => ({
    shape: [rowCount, width],
    values,
  });
  return new Map(
    [...own].map(([name, table]) => {
      const found = other.get(name);
      if (found === undefined) return [name, table];
      requireSameShape(name, asTensor(found), asTensor(table), where);
      return [name, { ...table, values: new Float32Array(found.values) }];
    }),
  );
}

function requireSameShape(
  name: string,
  found: DenseTensor,
  expected: DenseTensor,
  where: string | undefined,
): void {
  const differences = layoutDifferences(new Map([[name, found]]), new Map([[name, expected]]));
  if (differences.length === 0) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'the run to start from has another model',
    ...(where === undefined ? {} : { where }),
    expected: 'the shapes of the model of this run',
    found: differences.join('; '),
    cure: 'give both runs the same model section and the same features',
  });
}

/** Enough for a rate to be known well within what training moves the bias by. */
const TASKS_READ_MAX = 2_000;

/**
 * The state at outer step 0 with the bias at the logit of the click rate: that of the first segment with clicks, where
 * there are several. Where all labels are values, it stays at 0, the mean of standardised values.
 */
export async function withBiasStart(
  state: TrainingState,
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
): Promise<TrainingState> {
  if (config.training.biasStart !== 'click-rate') return state;
  const ofClicks = labelsOf(store.manifest).findIndex(({ loss }) => loss === 'binary');
  const tasks = store.tasks
    .filter(
      ({ split, labelIndex = 0 }) =>
        (split === 'train' || split === 'trunk') && labelIndex === ofClicks,
    )
    .map(({ taskIndex }) => taskIndex);
  if (tasks.length === 0) return state;
  const rate = await clickRateOf(store, spreadOver(tasks, TASKS_READ_MAX));
  const dense = new Map(state.metaParameters.dense);
  dense.set('bias', { shape: [1], values: Float32Array.of(Math.log(rate / (1 - rate))) });
  return { ...state, metaParameters: { ...state.metaParameters, dense } };
}
