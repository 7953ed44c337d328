/** The meta-parameters of a run that others use: to evaluate it, to export it, or to start from it. */

import type { RunEventSink } from '../../shared/events/run-events.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { CheckpointIdentity } from './checkpoint-identity.js';
import { findBestCheckpoint } from './checkpoint-reader.js';
import type { EarlierStore, TrainingState } from './training-state.js';

export interface CheckpointReceipt {
  readonly address: string;
  /** The digest of the meta-parameters. */
  readonly digest: string;
}

export interface SavedMetaParameters extends CheckpointReceipt {
  readonly outerStep: number;
  readonly metaParameters: MetaParameters;
  readonly computedOn: TrainingState['computedOn'];
  readonly earlierStores: readonly EarlierStore[];
  /** Whether it was chosen by its validation loss, so that later outer steps are no loss. */
  readonly isChosen: boolean;
}

/** The checkpoint with the lowest validation loss, or the latest where none was scored, without the optimizer's tables. */
export async function readMetaParameters(
  options: CheckpointIdentity & { readonly store: ObjectStore; readonly sink: RunEventSink },
): Promise<SavedMetaParameters | null> {
  const { store, sink } = options;
  const found = await findBestCheckpoint(store, options, sink);
  if (found === null) return null;
  return {
    outerStep: found.state.outerStep,
    metaParameters: found.state.metaParameters,
    computedOn: found.state.computedOn,
    earlierStores: found.state.earlierStores ?? [],
    isChosen: found.manifest.validated !== undefined,
    address: `${store.address}/${found.manifestKey}`,
    digest: found.manifest.metaParametersDigest,
  };
}
