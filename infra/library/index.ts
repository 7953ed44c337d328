/**
 * qianmo as a library: typed functions that prepare, train, evaluate, compare and sweep runs, with
 * everything wired to this machine. They print nothing, never end the process and install no signal
 * handlers. Code is loaded by the function that needs it.
 */

import {
  AutoRequestSchema,
  checkedRequest,
  CheckRequestSchema,
  CompareRequestSchema,
  ControlRequestSchema,
  EvaluateRequestSchema,
  ExtendRequestSchema,
  OpenRequestSchema,
  OpeRequestSchema,
  PrepareRequestSchema,
  PlanRequestSchema,
  ReplayRequestSchema,
  SweepRequestSchema,
  SynthesizeRequestSchema,
  TrainRequestSchema,
  type AutoRequest,
  type CheckRequest,
  type CompareRequest,
  type ControlRequest,
  type EvaluateRequest,
  type ExtendRequest,
  type OpenRequest,
  type OpeRequest,
  type PlanRequest,
  type PrepareRequest,
  type ReplayRequest,
  type SweepRequest,
  type SynthesizeRequest,
  type TrainRequest,
} from '../../coordinator/runs/requests.js';
import { BoardRequestSchema, type BoardRequest } from '../../coordinator/runs/dashboard-request.js';
import type { ComparisonReport } from '../../coordinator/comparison/comparison-report.js';
import type { Dashboard } from '../../coordinator/dashboard/serve-dashboard.js';
import type { ControlResult } from '../../coordinator/runs/control-run.js';
import type { PrunedBundles } from '../../coordinator/export/prune-bundles.js';
import type { ChangedExport } from '../../coordinator/runs/export/export-changed-run.js';
import type { ExportResult } from '../../coordinator/runs/export/export-run.js';
import type { RefreshResult } from '../../coordinator/runs/export/refresh-run.js';
import type { RunStatus } from '../../coordinator/record/run-status.js';
import type { ListedRuns } from '../../coordinator/runs/record/record-calls.js';
import type { OpenRun } from '../../coordinator/runs/open-run.js';
import type { PreparedStore } from '../../coordinator/runs/prepare-run.js';
import type { CallOptions, RunHandle } from '../../coordinator/runs/call/run-handle.js';
import type { PlanResult } from '../../coordinator/runs/plan-run.js';
import type { OpeResult } from '../../coordinator/runs/ope-run.js';
import type { TrainingResult } from '../../coordinator/runs/train-run.js';
import type { EvaluationReport } from '../../coordinator/scoring/evaluation-report.js';
import type { SweepRecord } from '../../coordinator/sweep/sweep-record.js';
import type { SynthesisReport } from '../../coordinator/synthesize/synthesis.js';
import type { ReportedWorker } from '../../shared/queue/job-queue.js';
import type { BundleLabel } from '../../shared/bundle/bundle-labels.js';
import type { ListedBundle, PublishedBundle } from '../../shared/bundle/bundle-store.js';
import type { MachineCheckResult } from './check-machine.js';
import type { ConvertedModel, ConvertRequest } from './convert-bundle.js';
import type { ReplayResult } from './explored-log.js';
import type { RankingService, ServeRequest, ServingMember } from './serve.js';
import { start, surroundingsOf } from './started-call.js';
import type { WorkRequest } from './work.js';

export { QianmoError, formatFailure } from '../../shared/base/errors.js';
export type { FailureKind, FailureReport } from '../../shared/base/errors.js';
export type { EventKind, StampedEvent, StampedEventSink } from '../../shared/events/run-events.js';
export type * from './request-types.js';
export {
  checkBundle,
  convertBundle,
  exportChanged,
  exportRun,
  labelBundle,
  listBundles,
  pruneBundles,
  refresh,
  rollBackBundle,
} from './bundles.js';
export {
  listRuns,
  queueWorkers,
  readRunLog,
  runPageHtml,
  runStatus,
  waitForRun,
} from './record.js';
export type { Environment } from '../../coordinator/runs/call/run-context.js';
export type {
  BundleLabel,
  CallOptions,
  ChangedExport,
  ComparisonReport,
  ReportedWorker,
  ControlResult,
  ConvertedModel,
  ConvertRequest,
  Dashboard,
  EvaluationReport,
  ExportResult,
  ListedBundle,
  ListedRuns,
  MachineCheckResult as CheckResult,
  OpenRun,
  OpeResult,
  PlanResult,
  PreparedStore,
  PrunedBundles,
  PublishedBundle,
  RankingService,
  RefreshResult,
  ReplayResult,
  RunHandle,
  RunStatus,
  ServeRequest,
  SweepRecord,
  SynthesisReport,
  TrainingResult,
  WorkRequest,
};

/**
 * Loads files that each define a method or a model (`qianmo/plugin`). Call it once, before anything
 * else of the library reads a config.
 */
export async function loadPlugins(paths: readonly string[]): Promise<void> {
  const plugins = await import('../../shared/plugins/load-plugins.js');
  await plugins.loadPlugins(paths);
}

/** Turns logs into a task store. A store that was made from the same logs and config is kept. */
export function prepare(
  request: PrepareRequest,
  options: CallOptions = {},
): RunHandle<PreparedStore> {
  return start(options, async (context) => {
    const { prepareRun } = await import('../../coordinator/runs/prepare-run.js');
    return prepareRun(checkedRequest(PrepareRequestSchema, request, 'prepare'), context);
  });
}

/** Meta-trains on the training tasks of a prepared store. */
export function train(request: TrainRequest, options: CallOptions = {}): RunHandle<TrainingResult> {
  return start(options, async (context) => {
    const { trainRun } = await import('../../coordinator/runs/train-call.js');
    return trainRun(checkedRequest(TrainRequestSchema, request, 'train'), context);
  });
}

/**
 * Compares the arms of a trained run on held-out tasks, and writes the reports to its output.
 *
 * @returns a report for each segment, or a single report if tasks have no segments
 */
export function evaluate(
  request: EvaluateRequest,
  options: CallOptions = {},
): RunHandle<readonly EvaluationReport[]> {
  return start(options, async (context) => {
    const { evaluateRun } = await import('../../coordinator/runs/evaluate-run.js');
    return evaluateRun(checkedRequest(EvaluateRequestSchema, request, 'evaluate'), context);
  });
}

/**
 * Opens a prepared run and starts what computes it, for several calls on the same processes. The caller
 * closes it. `onEvent` receives the events of all its calls.
 */
export async function openRun(request: OpenRequest, options: CallOptions = {}): Promise<OpenRun> {
  const opening = await import('../../coordinator/runs/open-run.js');
  const checked = checkedRequest(OpenRequestSchema, request, 'openRun');
  return opening.openRun(checked, surroundingsOf(options), options);
}

/** Compares evaluated runs on the same test rows. The first run is the reference. */
export function compare(
  request: CompareRequest,
  options: CallOptions = {},
): RunHandle<ComparisonReport> {
  return start(options, async (context) => {
    const { compareEvaluated } = await import('../../coordinator/runs/compare-evaluated.js');
    return compareEvaluated(checkedRequest(CompareRequestSchema, request, 'compare'), context);
  });
}

/** Tries methods and settings, and keeps those that do best on the validation tasks. */
export function sweep(request: SweepRequest, options: CallOptions = {}): RunHandle<SweepRecord> {
  return start(options, async (context) => {
    const { sweepRuns } = await import('../../coordinator/runs/sweep-run.js');
    return sweepRuns(checkedRequest(SweepRequestSchema, request, 'sweep'), context);
  });
}

/** Chooses model, method and training of a run on the validation tasks, within a budget of time or trials. */
export function auto(request: AutoRequest, options: CallOptions = {}): RunHandle<SweepRecord> {
  return start(options, async (context) => {
    const { autoRun } = await import('../../coordinator/runs/auto-run.js');
    return autoRun(checkedRequest(AutoRequestSchema, request, 'auto'), context);
  });
}

/** Predicts the throughput of a run on many workers from what an outer step costs with one. */
export function plan(request: PlanRequest, options: CallOptions = {}): RunHandle<PlanResult> {
  return start(options, async (context) => {
    const { planRun } = await import('../../coordinator/runs/plan-run.js');
    return planRun(checkedRequest(PlanRequestSchema, request, 'plan'), context);
  });
}

/**
 * Pauses a run that a coordinator works on, on whatever machine: the outer step under way ends, and no other jobs
 * go out until somebody resumes it. Resolves when the coordinator has heard of it.
 */
export function pause(
  request: ControlRequest,
  options: CallOptions = {},
): RunHandle<ControlResult> {
  return control('pause', request, options);
}

/** Ends the pause of a run. */
export function resume(
  request: ControlRequest,
  options: CallOptions = {},
): RunHandle<ControlResult> {
  return control('resume', request, options);
}

/**
 * Stops a run, which loses the outer step under way and can be resumed by training it again. The call that trains it
 * rejects with a QianmoError of kind `cancelled`.
 */
export function cancel(
  request: ControlRequest,
  options: CallOptions = {},
): RunHandle<ControlResult> {
  return control('cancel', request, options);
}

/** Gives a run that is being trained more outer steps than its config says. */
export function extend(
  request: ExtendRequest,
  options: CallOptions = {},
): RunHandle<ControlResult> {
  return start(options, async (context) => {
    const { extendRun } = await import('../../coordinator/runs/control-run.js');
    return extendRun(checkedRequest(ExtendRequestSchema, request, 'extend'), context);
  });
}

function control(
  order: 'pause' | 'resume' | 'cancel',
  request: ControlRequest,
  options: CallOptions,
): RunHandle<ControlResult> {
  return start(options, async (context) => {
    const { controlRun } = await import('../../coordinator/runs/control-run.js');
    return controlRun(order, checkedRequest(ControlRequestSchema, request, order), context);
  });
}

/** Estimates from logged choices what another policy would have earned. */
export function ope(request: OpeRequest, options: CallOptions = {}): RunHandle<OpeResult> {
  return start(options, async (context) => {
    const { judgeLoggedChoices } = await import('./explored-log.js');
    return judgeLoggedChoices(checkedRequest(OpeRequestSchema, request, 'ope'), context);
  });
}

/** Repeats logged decisions from their records, bit for bit. A decision that differs is a result, not a failure. */
export function replayDecisions(
  request: ReplayRequest,
  options: CallOptions = {},
): RunHandle<ReplayResult> {
  return start(options, async (context) => {
    const { replayLog } = await import('./explored-log.js');
    return replayLog(checkedRequest(ReplayRequestSchema, request, 'replayDecisions'), context);
  });
}

/** Writes an advertising log whose true click probabilities are known. */
export function synthesize(
  request: SynthesizeRequest,
  options: CallOptions = {},
): RunHandle<SynthesisReport> {
  return start(options, async (context) => {
    const { synthesizeLog } = await import('../../coordinator/runs/synthesize-log.js');
    return synthesizeLog(checkedRequest(SynthesizeRequestSchema, request, 'synthesize'), context);
  });
}

/** Checks the requirements of this machine, and of a run if one is given. A problem is a result, not a failure. */
export function check(
  request: CheckRequest = {},
  options: CallOptions = {},
): RunHandle<readonly MachineCheckResult[]> {
  return start(options, async (context) => {
    const { checkRequirements } = await import('./check-requirements.js');
    return checkRequirements(checkedRequest(CheckRequestSchema, request, 'check'), context);
  });
}

/** Runs a worker, which takes jobs of any run from the queue. Resolves when `options.signal` aborts. */
export function work(request: WorkRequest, options: CallOptions = {}): RunHandle<void> {
  return start(
    options,
    async (context) => {
      const { workUntilStopped, WorkRequestSchema } = await import('./work.js');
      return workUntilStopped(checkedRequest(WorkRequestSchema, request, 'work'), context);
    },
    'worker',
  );
}

/** Serves pages about runs, from their records, their queue or both. The caller closes it. */
export async function serveDashboard(
  request: BoardRequest,
  options: Pick<CallOptions, 'environment'> = {},
): Promise<Dashboard> {
  const { openDashboard } = await import('./dashboard.js');
  return openDashboard(
    checkedRequest(BoardRequestSchema, request, 'serveDashboard'),
    surroundingsOf(options),
  );
}

/**
 * Serves rankings from a bundle, and follows its label. The caller closes it, which answers what is under way.
 *
 * @param member of a process among those that another has started to answer on one port.
 */
export async function serveRankings(
  request: ServeRequest,
  options: CallOptions = {},
  member?: ServingMember,
): Promise<RankingService> {
  const { serveFromBundle, ServeRequestSchema } = await import('./serve.js');
  const checked = checkedRequest(ServeRequestSchema, request, 'serveRankings');
  return serveFromBundle(checked, surroundingsOf(options), options, member);
}
