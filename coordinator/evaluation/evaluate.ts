/** Evaluates a trained run on held-out adgroups: every arm side by side, nothing tuned on test. */

import type { RunConfig } from '../../shared/config/run-config.js';
import type { Clock } from '../../shared/clock.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RunEventSink } from '../../shared/run-events.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatcher.js';
import type { EvaluationReport } from './report-json.js';

export interface EvaluateOptions {
  readonly config: RunConfig;
  /** Names the run on the queue; jobs get ids derived from it and from what is evaluated. */
  readonly runId: string;
  readonly store: TaskStore;
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly meta: MetaParameters;
  /** Of the global arm; null leaves out the arms that need it. */
  readonly global: MetaParameters | null;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  /** Writes each test row's prediction of every arm to this Parquet file. */
  readonly predictionsPath?: string;
}

/**
 * Validation tasks decide every setting, test tasks are only scored.
 *
 * @throws QianmoError of kind `data` when there is no test task, or no validation task to choose
 *   settings on; whatever the dispatcher throws.
 */
export function evaluate(_options: EvaluateOptions): Promise<EvaluationReport> {
  return Promise.reject(new Error('not built yet'));
}
