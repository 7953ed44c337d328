/** The run that training and evaluation compute, and the caller that follows it. */

import type { Clock } from '../../shared/base/clock.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';

/** A run whose task store is open. `config.run` is its name on the queue and in events. */
export interface PreparedRun {
  readonly config: RunConfig;
  readonly store: TaskStore;
  /** The address of the store for workers: a path or `s3://bucket/prefix`. */
  readonly storeAddress: string;
  readonly spec: ModelSpec;
}

/** How the caller times, watches and stops the work on a run. */
export interface RunCaller {
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** Aborts with a QianmoError of kind `interrupted`. */
  readonly signal: AbortSignal;
}
