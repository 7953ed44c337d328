/** The input and the outcome of the outer loop. */

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
  /** The address of the store for workers: a path or `s3://bucket/prefix`. */
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly checkpoints: Checkpoints;
  /** Continue from the latest checkpoint, if there is one. */
  readonly resume: boolean;
  /** Start at outer step 0 even if a checkpoint of this run exists. */
  readonly fresh?: boolean;
  /**
   * Stop after this outer step, with a checkpoint. Schedules follow the full length of the run, so
   * stopping and continuing changes no bit.
   */
  readonly stopAtOuterStep?: number;
  /** Begin outer step 0 with the parameters that another run has learned. */
  readonly startFrom?: StartFrom;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
}

export interface TrainingOutcome {
  readonly state: TrainingState;
  /** The address of the last checkpoint. */
  readonly address: string;
  /** The digest of the meta-parameters. */
  readonly digest: string;
  /** The number of completed outer steps, including those before a resume. */
  readonly outerSteps: number;
}
