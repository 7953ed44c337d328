/** The meta-training of a refresh: a bounded number of outer steps on a store that logs were appended to. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { featuresAt } from '../../../shared/tasks/store-versions.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { CheckpointManifest } from '../../checkpoints/checkpoint-manifest.js';
import { latestManifestOf } from '../../checkpoints/latest-manifest.js';
import { outerStepsOf } from '../../checkpoints/training-state.js';
import { scoresSinceBest } from '../../checkpoints/validated-steps.js';
import { rateShareAt } from '../../training/meta-optimizer/stages.js';
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
  const extendTo = refreshedLengthOf(manifest, { store: run.store, config, outerSteps });
  if (extendTo === null) return null;
  const { trainOn } = await import('../train-run.js');
  const start = { resume: true, fresh: false, extendTo };
  const trained = await trainOn(run, await dispatchOf(), start, context);
  // Training may have stopped early.
  return { fromOuterStep: manifest.outerStep, toOuterStep: trained.outerSteps };
}

type TrainedSoFar = Pick<
  CheckpointManifest,
  'outerStep' | 'storeDigest' | 'earlierStores' | 'extendedOuterSteps' | 'validated'
>;

interface Refreshed {
  readonly store: Pick<TaskStore, 'digest' | 'manifest'>;
  readonly config: RunConfig;
  /** How many outer steps to train further. */
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
  const { storeDigest, earlierStores = [] } = manifest;
  if (storeDigest === store.digest)
    return earlierStores.length > 0 && !isAtItsEnd(manifest, config)
      ? outerStepsOf(manifest, config.training)
      : null;
  demandTrainable(manifest, { store, config, outerSteps });
  return manifest.outerStep + outerSteps;
}

/**
 * Demands that the run may be trained further. It is asked before logs are appended, too.
 *
 * @throws QianmoError of kind `usage` if it may not.
 */
export function demandTrainable(
  manifest: TrainedSoFar,
  { store, config, outerSteps }: Refreshed,
): void {
  const { outerStep, storeDigest, earlierStores = [] } = manifest;
  const { staleness, schedule, outerSteps: scheduledSteps } = config.training;
  const refused = (what: string, found: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where: config.output, found, cure });
  if (storeDigest !== store.digest && featuresAt(store, storeDigest) === null)
    throw refused(
      'the run was trained on another task store, so it cannot be trained further on this one',
      `a checkpoint of ${storeDigest.slice(0, 12)}, a store of ${store.digest.slice(0, 12)}`,
      'train the run on this store: qianmo train run.yaml --fresh',
    );
  if (staleness !== undefined)
    throw refused(
      'a run with staleness is not trained further by a refresh',
      'training.staleness, by which outer steps depend on how many there are',
      'leave out --outer-steps, or training.staleness from the start',
    );
  if (earlierStores.length === 0 && !isAtItsEnd(manifest, config))
    throw refused(
      'the run has not been trained to its end',
      `outer step ${outerStep} of ${outerStepsOf(manifest, config.training)}`,
      'train it first: qianmo train run.yaml --resume',
    );
  if (rateShareAt(outerStep + outerSteps - 1, schedule, scheduledSteps) > 0) return;
  const leftSteps = Math.max(0, scheduledSteps - outerStep);
  const cure = 'a run that is to be trained further needs a finalShare above 0 from the start';
  throw refused(
    leftSteps === 0
      ? 'further outer steps would change nothing: the rate of this run has fallen to 0'
      : `further outer steps would change nothing after ${leftSteps}, when the rate of this run falls to 0`,
    `training.schedule: { decay: ${schedule.decay}, finalShare: 0 }`,
    leftSteps === 0
      ? `leave out --outer-steps; ${cure}`
      : `set --outer-steps ${leftSteps} or less; ${cure}`,
  );
}

/** Whether it has all its outer steps, or has stopped early. */
function isAtItsEnd(manifest: TrainedSoFar, config: RunConfig): boolean {
  const { earlyStopping } = config.training;
  const hasStoppedEarly =
    earlyStopping !== undefined && scoresSinceBest(manifest.validated) >= earlyStopping.patience;
  return hasStoppedEarly || manifest.outerStep >= outerStepsOf(manifest, config.training);
}
