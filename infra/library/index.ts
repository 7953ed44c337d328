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
export type * from './requests.js';
export type * from '../../coordinator/runs/requests.js';
export type { ComparisonReport } from '../../coordinator/comparison/comparison-report.js';
export type { Dashboard } from '../../coordinator/dashboard/serve-dashboard.js';
export type { PrunedBundles } from '../../coordinator/export/upkeep/prune-bundles.js';
export type { RunStatus } from '../../coordinator/record/run-status.js';
export type { Environment } from '../../coordinator/runs/call/run-context.js';
export type { CallOptions, RunHandle } from '../../coordinator/runs/call/run-handle.js';
export type { ControlResult } from '../../coordinator/runs/control-run.js';
export type { ChangedExport } from '../../coordinator/runs/export/export-changed-run.js';
export type { ExportResult } from '../../coordinator/runs/export/export-run.js';
export type { CompactedPlace } from '../../coordinator/runs/export/manage-bundles.js';
export type { RefreshResult } from '../../coordinator/runs/export/refresh-run.js';
export type { OpenRun } from '../../coordinator/runs/open-run.js';
export type { OpeResult } from '../../coordinator/runs/ope-run.js';
export type { PlanResult } from '../../coordinator/runs/plan-run.js';
export type { PreparedStore } from '../../coordinator/runs/prepare-run.js';
export type { ListedRuns } from '../../coordinator/runs/record-calls.js';
export type { TrainingResult } from '../../coordinator/runs/train-run.js';
export type { EvaluationReport } from '../../coordinator/scoring/evaluation-report.js';
export type { SweepRecord } from '../../coordinator/sweep/sweep-record.js';
export type { SynthesisReport } from '../../coordinator/synthesize/synthesis.js';
export type { BundleLabel } from '../../shared/bundle/bundle-labels.js';
export type { ListedBundle, PublishedBundle } from '../../shared/bundle/bundle-store.js';
export type { ReportedWorker } from '../../shared/queue/job-queue.js';
export type { MachineCheckResult as CheckResult } from './check-machine.js';
export type { ConvertedModel } from './convert-bundle.js';
export type { ReplayResult } from './explored-log.js';
export type { RankingService } from './serve.js';
