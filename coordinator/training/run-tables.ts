/** The embedding tables of a run, in this process: gathered into row packs, stepped, and frozen for checkpoints. */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { encodeRowPack, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TableSnapshot } from '../checkpoints/table-snapshot.js';
import { TrackedTables } from '../checkpoints/tracked-tables.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import type { MetaGradient } from './meta-optimizer/meta-gradient.js';
import {
  metaOptimizerOf,
  movesUntouchedRows,
  steppedState,
} from './meta-optimizer/meta-optimizer.js';
import {
  copyUnknownRows,
  unknownCopiesOf,
  withSharedUnknown,
  writtenRowsOf,
} from './meta-optimizer/unknown-copies.js';

export interface RunTables {
  /** Encodes the row pack of a job. To be called before the next step. */
  encodePack(layout: RowPackLayout): Uint8Array;
  /** Applies one outer step to dense variables and rows. It may write to the gradient. */
  step(state: TrainingState, gradient: MetaGradient): TrainingState;
  /** The tables as they are now. It ends the use of an earlier snapshot. */
  snapshot(): TableSnapshot;
}

/** The tables of the state that a training starts from. Steps write to them in place. */
export function runTables(
  start: TrainingState,
  spec: ModelSpec,
  training: TrainingConfig,
): RunTables {
  const { tables } = start.metaParameters;
  const tracked = new TrackedTables(start);
  const optimizer = metaOptimizerOf(training, spec.variables);
  const copies = unknownCopiesOf(spec);
  return {
    encodePack: (layout) => encodeRowPack(tables, layout, spec.tableRowWidth),
    step(state, unshared) {
      const outerStep = state.outerStep + 1;
      const gradient = withSharedUnknown(unshared, copies);
      const { rows } = gradient;
      if (movesUntouchedRows(training)) tracked.willWriteTables(rows, outerStep);
      else tracked.willWriteRows(writtenRowsOf(rows, copies), outerStep);
      const stepped = steppedState(optimizer, state, gradient);
      copyUnknownRows(stepped.metaParameters.tables, rows, copies);
      return stepped;
    },
    snapshot: () => tracked.snapshot(),
  };
}
