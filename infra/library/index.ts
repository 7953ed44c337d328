/**
 * qianmo as a library: typed functions that prepare, train, evaluate, compare and sweep runs, with
 * everything wired to this machine. They print nothing, never end the process and install no signal
 * handlers. Code is loaded by the function that needs it. The files of verbs declare them.
 */

export { QianmoError, formatFailure } from '../../shared/base/errors.js';
export type { FailureKind, FailureReport } from '../../shared/base/errors.js';
export type { EventKind, StampedEvent, StampedEventSink } from '../../shared/events/run-events.js';
export { loadPlugins } from '../../shared/plugins/load-plugins.js';
export * from './run-verbs.js';
export * from './bundle-verbs.js';
export * from './queue-verbs.js';
export type {
  EvaluationChoice,
  PolicySource,
  RunConfigSource,
  SweepConfigSource,
  TrainingStart,
} from '../../coordinator/runs/requests.js';
export type { Dashboard } from '../../coordinator/dashboard/serve-dashboard.js';
export type { Environment } from '../../coordinator/runs/run-context.js';
export type { CallOptions, RunHandle } from '../../coordinator/runs/run-handle.js';
export type { OpenRun } from '../../coordinator/runs/evaluate-run.js';
export type { RankingService } from './serve.js';
export type { RequestOf, ResultOf } from './verb.js';
