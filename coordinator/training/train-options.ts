/** What the outer loop is given and what it returns. */

import type { Clock } from '../../shared/base/clock.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Checkpoints } from '../checkpoints/checkpoint-writer.js';
import type { StartFrom } from './start-from.js';
import type { TrainingState } from '../checkpoints/training-state.js';

export interface TrainOptions {
  readonly config: RunConfig;
  readonly runId: string;
  readonly store: TaskStore;
  /** Where workers find the store: a path or `s3://bucket/prefix`. */
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly checkpoints: Checkpoints;
  /** Go on from the latest checkpoint, if there is one. */
  readonly resume: boolean;
  /** Start at outer step 0 even where a checkpoint of this run exists. */
  readonly fresh?: boolean;
  /**
   * Stop after this outer step, with a checkpoint to go on from. Not part of the run: schedules
   * follow its full length, so stopping and going on changes no bit.
   */
  readonly stopAtOuterStep?: number;
  /** Outer step 0 begins with what another run has learned. */
  readonly startFrom?: StartFrom;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
}

export interface TrainingOutcome {
  readonly state: TrainingState;
  /** Of the last checkpoint. */
  readonly address: string;
  /** Of the meta-parameters. */
  readonly digest: string;
  /** Outer steps completed, those before a resume included. */
  readonly outerSteps: number;
}
