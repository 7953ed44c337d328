/** The meta-training of a refresh: a bounded number of outer steps on a store that logs were appended to. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { featuresAt } from '../../../shared/tasks/store-versions.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { CheckpointManifest } from '../../checkpoints/checkpoint-manifest.js';
import { latestManifestOf } from '../../checkpoints/latest-manifest.js';
import type { RunContext } from '../call/run-context.js';
import type { RunDispatch } from '../dispatch-for-run.js';
import { checkpointAddressOf, objectStoreOf, openPreparedRun } from '../run-files.js';

export interface TrainedFurther {
  readonly fromOuterStep: number;
  readonly toOuterStep: number;
}

/**
 * Trains on from the latest checkpoint, unless that has been done since logs were appended last.
 *
 * @returns null if there was nothing to train.
 * @throws QianmoError of kind `usage` if the run cannot be trained on.
 */
export async function trainedFurther(
  config: RunConfig,
  outerSteps: number,
  dispatchOf: () => Promise<RunDispatch>,
  context: RunContext,
): Promise<TrainedFurther | null> {
  const run = await openPreparedRun(config, context);
  const manifest = await latestManifestOf(objectStoreOf(config, checkpointAddressOf(config)));
  // Whoever reads the checkpoint next says what is wrong with it.
  if (manifest === null) return null;
  const toOuterStep = refreshedLengthOf(manifest, { store: run.store, config, outerSteps });
  if (toOuterStep === null) return null;
  const { trainOn } = await import('../train-run.js');
  const start = { resume: true, fresh: false, extendTo: toOuterStep };
  await trainOn(run, await dispatchOf(), start, context);
  return { fromOuterStep: manifest.outerStep, toOuterStep };
}

type TrainedSoFar = Pick<
  CheckpointManifest,
  'outerStep' | 'storeDigest' | 'earlierStores' | 'extendedOuterSteps'
>;

interface Refreshed {
  readonly store: Pick<TaskStore, 'digest' | 'manifest'>;
  readonly config: RunConfig;
  readonly outerSteps: number;
}

/**
 * The outer step to train to. It follows from the checkpoint, so that a refresh which was killed does not train longer
 * than one that was not: a checkpoint of the store as it is has the length that the refresh gave it.
 *
 * @returns null if nothing is to be trained.
 */
export function refreshedLengthOf(
  manifest: TrainedSoFar,
  { store, config, outerSteps }: Refreshed,
): number | null {
  const { outerStep, storeDigest, earlierStores = [] } = manifest;
  const length = manifest.extendedOuterSteps ?? config.training.outerSteps;
  if (storeDigest === store.digest)
    return earlierStores.length > 0 && outerStep < length ? length : null;
  const refused = (what: string, found: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where: config.output, found, cure });
  if (featuresAt(store, storeDigest) === null)
    throw refused(
      'the run was trained on another task store, so it cannot be trained further on this one',
      `a checkpoint of ${storeDigest.slice(0, 12)}, a store of ${store.digest.slice(0, 12)}`,
      'train the run on this store: qianmo train run.yaml --fresh',
    );
  if (config.training.staleness !== undefined)
    throw refused(
      'a run with staleness is not trained further by a refresh',
      'training.staleness, by which outer steps depend on how many there are',
      'leave out --outer-steps, or training.staleness from the start',
    );
  if (earlierStores.length === 0 && outerStep < length)
    throw refused(
      'the run has not been trained to its end',
      `outer step ${outerStep} of ${length}`,
      'train it first: qianmo train run.yaml --resume',
    );
  return outerStep + outerSteps;
}
