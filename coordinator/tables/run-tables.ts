/** The embedding tables of a run, wherever their rows are: gathered for jobs, stepped, and stored. */

import type { PackOf } from '../plan/orders/step-orders.js';
import { encodeRowPack } from '../plan/row-pack-gather.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TableSnapshot } from '../checkpoints/table-snapshot.js';
import { TrackedTables } from '../checkpoints/tracked-tables.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import type { MetaGradient } from '../training/meta-optimizer/meta-gradient.js';
import {
  copyUnknownRows,
  unknownCopiesOf,
  withSharedUnknown,
  writtenRowsOf,
} from './unknown-copies.js';
import {
  metaOptimizerOf,
  movesUntouchedRows,
  steppedState,
} from '../training/meta-optimizer/meta-optimizer.js';

export interface RunTables {
  /** The row packs of an outer step's jobs, to be read before the next step. */
  gather(layouts: readonly RowPackLayout[]): Promise<PackOf>;
  /** Applies one outer step to dense variables and rows. It may write to the gradient. */
  step(state: TrainingState, gradient: MetaGradient): Promise<TrainingState>;
  /** The tables as they are now. An earlier snapshot is of no use any more. */
  snapshot(): TableSnapshot;
}

/** The tables of the state, in this process. */
export function localTables(
  start: TrainingState,
  spec: ModelSpec,
  training: TrainingConfig,
): RunTables {
  const { tables } = start.metaParameters;
  const tracked = new TrackedTables(start);
  const optimizer = metaOptimizerOf(training, spec.variables);
  const copies = unknownCopiesOf(spec);
  return {
    gather: (layouts) =>
      Promise.resolve((jobIndex) => {
        const layout = layouts[jobIndex];
        if (layout === undefined) throw new Error(`there is no job ${jobIndex}`);
        return encodeRowPack(tables, layout, spec.tableRowWidth);
      }),
    step(state, unshared) {
      const outerStep = state.outerStep + 1;
      const gradient = withSharedUnknown(unshared, copies);
      const { rows } = gradient;
      if (movesUntouchedRows(training)) tracked.willWriteTables(rows, outerStep);
      else tracked.willWriteRows(writtenRowsOf(rows, copies), outerStep);
      const stepped = steppedState(optimizer, state, gradient);
      copyUnknownRows(stepped.metaParameters.tables, rows, copies);
      return Promise.resolve(stepped);
    },
    snapshot: () => tracked.snapshot(),
  };
}
