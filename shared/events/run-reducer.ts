/** Reduces the events of a run to its state, event by event: status, lists, pages, notices and the terminal read it. */

import type { ProcessIdentity } from '../storage/process-identity.js';
import {
  isProgress,
  type EventKind,
  type StampedEvent,
  type StampedEventOf,
} from './run-events.js';

export interface RunView {
  readonly run: string | null;
  /** The last call that keeps the log, as `train`; null if the end of the log does not name it. */
  readonly callName: string | null;
  /** The call with its process; null if the end of the log does not name that. */
  readonly call: CallView | null;
  readonly ending: RunEnding | null;
  readonly isAwaitingWorkers: boolean;
  readonly training: TrainingView | null;
  /** The stage that is counted at present, outside the training of the run; an arm that is trained is one. */
  readonly stage: StageView | null;
  readonly checkpoint: { readonly outerStep: number; readonly digest: string } | null;
  readonly validation: { readonly bestOuterStep: number; readonly bestLoss: number } | null;
  /** Milliseconds of an outer step, the median of the last ones; null before the first. */
  readonly outerStepMs: number | null;
  /** Epoch milliseconds of the last event, and of the last one that shows progress. */
  readonly lastEventMs: number | null;
  readonly lastProgressMs: number | null;
  /** Results that were not used, by reason. */
  readonly refusedResultCounts: Readonly<Record<string, number>>;
}

interface CallView {
  readonly name: string;
  readonly process: ProcessIdentity;
  readonly sinceMs: number;
  readonly aliveMs: number;
}

type RunEnding =
  | { readonly kind: 'finished' }
  /** `failure` is the kind of a `QianmoError`, or `bug`. */
  | { readonly kind: 'failed'; readonly failure: string; readonly reason: string };

interface TrainingView {
  readonly outerStep: number;
  readonly outerSteps: number;
  readonly queryLoss: number | null;
  readonly supportLoss: number | null;
  readonly tasksPerSecond: number | null;
  /** The last outer step that measured the query loss before adaptation; null before there is one. */
  readonly adaptation: AdaptationView | null;
}

/** Query losses of the tasks of one outer step. */
interface AdaptationView {
  readonly outerStep: number;
  readonly queryLossBefore: number;
  readonly queryLossAfter: number;
}

interface StageView {
  readonly stage: string;
  readonly done: number;
  readonly total: number | null;
}

/** The number of outer steps whose durations are looked at. */
const DURATION_COUNT_MAX = 50;
/** The weight of the newest outer step in the mean speed. */
const NEWEST_WEIGHT = 0.1;

type Draft = { -readonly [Field in keyof RunView]: RunView[Field] } & {
  /** Start and end of the last outer steps. */
  stepEndsMs: number[];
  /** A mean over the last outer steps, the newest with most weight. */
  meanTasksPerSecond: number | null;
  failure: Extract<RunEnding, { kind: 'failed' }> | null;
  refusedResultCounts: Record<string, number>;
};

/** The state of a log that goes on. @param events of it, in its order; they may begin anywhere. */
export function reducedRun(events: readonly StampedEvent[]): RunReducer {
  // A log that begins within a call: most calls on an output are for the same run.
  const named = events.find(({ kind }) => kind === 'call-alive')?.runId ?? null;
  const run = new RunReducer(named);
  for (const event of events) run.admit(event);
  return run;
}

/** Events whose numbers are those of one training. */
const OF_TRAINING: ReadonlySet<EventKind> = new Set([
  ...['run-started', 'outer-step', 'outer-step-timed', 'checkpoint', 'run-finished'],
  ...['run-validated'],
] as const);

export class RunReducer {
  /** The run of the call; null if nobody knows. */
  #ownRun: string | null;
  readonly #draft: Draft = {
    ...{
      run: null,
      callName: null,
      call: null,
      ending: null,
      isAwaitingWorkers: false,
    },
    ...{ training: null, stage: null, checkpoint: null, validation: null, outerStepMs: null },
    ...{ lastEventMs: null, lastProgressMs: null, refusedResultCounts: {} },
    ...{ stepEndsMs: [], meanTasksPerSecond: null, failure: null },
  };

  /** @param run of the call that had begun before the first event; null if nobody knows. */
  constructor(run: string | null = null) {
    this.#ownRun = run;
  }

  /** @returns false for the training of an arm, as the global arm of an evaluation is: the log of a call has both. */
  admit(event: StampedEvent): boolean {
    this.#draft.lastEventMs = event.epochMs;
    admitCourse(this.#draft, event);
    if (event.kind === 'call-alive') this.#ownRun = event.runId ?? null;
    if (this.#isTrainingOfArm(event)) {
      admitArm(this.#draft, event);
      return false;
    }
    // Later calls on the output may bear other names; the run is the one that was trained.
    if (this.#draft.training === null || event.kind === 'run-started')
      this.#draft.run = event.runId ?? this.#draft.run;
    admitWork(this.#draft, event);
    return true;
  }

  /** Tasks per second of the last outer steps; null before the first. */
  get meanTasksPerSecond(): number | null {
    return this.#draft.meanTasksPerSecond;
  }

  #isTrainingOfArm({ kind, runId }: StampedEvent): boolean {
    if (this.#ownRun === null || runId === undefined) return false;
    return runId !== this.#ownRun && OF_TRAINING.has(kind);
  }

  view(): RunView {
    const {
      meanTasksPerSecond: _mean,
      stepEndsMs,
      failure,
      refusedResultCounts,
      ...view
    } = this.#draft;
    return {
      ...view,
      refusedResultCounts: { ...refusedResultCounts },
      // A call that was killed while it closed has told its failure, and not its end.
      ending: view.ending ?? failure,
      outerStepMs: medianGapOf(stepEndsMs),
    };
  }
}

/** Begin, end and control of a call. */
function admitCourse(draft: Draft, event: StampedEvent): void {
  switch (event.kind) {
    case 'call-alive': {
      const { call: name, process, sinceMs, epochMs } = event;
      if (draft.call?.sinceMs !== sinceMs || draft.call.process.pid !== process.pid)
        beginCall(draft);
      draft.callName = name;
      draft.call = { name, process, sinceMs, aliveMs: epochMs };
      return;
    }
    case 'call-ended':
      draft.callName = event.call;
      draft.ending = draft.failure ?? { kind: 'finished' };
      return;
    case 'run-failed':
      draft.failure = { kind: 'failed', failure: event.failure, reason: event.reason };
      return;
    case 'workers-awaited':
    case 'workers-missing':
      draft.isAwaitingWorkers = true;
      return;
    default:
      return;
  }
}

function beginCall(draft: Draft): void {
  draft.ending = null;
  draft.failure = null;
  draft.isAwaitingWorkers = false;
  draft.stage = null;
  draft.stepEndsMs = [];
  draft.refusedResultCounts = {};
}

function admitArm(draft: Draft, event: StampedEvent): void {
  if (event.kind === 'run-started') beginTraining(draft, event.epochMs);
  if (event.kind !== 'outer-step') return;
  draft.stage = {
    stage: `outer steps of ${event.runId ?? 'an arm'}`,
    done: event.outerStep,
    total: event.outerSteps,
  };
  admitStepEnd(draft, event);
  draft.lastProgressMs = event.epochMs;
  draft.isAwaitingWorkers = false;
}

function trainingAfter(
  event: StampedEventOf<'outer-step'>,
  adaptation: AdaptationView | null,
): TrainingView {
  const { outerStep, outerSteps, queryLoss, queryLossBefore, supportLoss, tasksPerSecond } = event;
  return {
    ...{ outerStep, outerSteps, queryLoss, supportLoss, tasksPerSecond },
    adaptation:
      queryLossBefore === undefined
        ? adaptation
        : { outerStep, queryLossBefore, queryLossAfter: queryLoss },
  };
}

function beginTraining(draft: Draft, epochMs: number): void {
  draft.stepEndsMs = [epochMs];
  draft.meanTasksPerSecond = null;
}

function admitStepEnd(
  draft: Draft,
  { epochMs, tasksPerSecond }: StampedEventOf<'outer-step'>,
): void {
  draft.stepEndsMs.push(epochMs);
  if (draft.stepEndsMs.length > DURATION_COUNT_MAX + 1) draft.stepEndsMs.shift();
  const mean = draft.meanTasksPerSecond ?? tasksPerSecond;
  draft.meanTasksPerSecond = mean + NEWEST_WEIGHT * (tasksPerSecond - mean);
}

function admitWork(draft: Draft, event: StampedEvent): void {
  switch (event.kind) {
    case 'run-started': {
      const { outerStep, outerSteps } = event;
      beginTraining(draft, event.epochMs);
      const losses = { queryLoss: null, supportLoss: null, tasksPerSecond: null };
      draft.training = { outerStep, outerSteps, ...losses, adaptation: null };
      return;
    }
    case 'outer-step': {
      draft.training = trainingAfter(event, draft.training?.adaptation ?? null);
      admitStepEnd(draft, event);
      break;
    }
    case 'progress':
      draft.stage = { stage: event.stage, done: event.done, total: event.total };
      break;
    case 'checkpoint':
    case 'run-finished':
      draft.checkpoint = { outerStep: event.outerStep, digest: event.digest };
      break;
    case 'run-validated':
      if (event.isBest) draft.validation = { bestOuterStep: event.outerStep, bestLoss: event.loss };
      break;
    case 'result-refused':
      draft.refusedResultCounts[event.rejection] =
        (draft.refusedResultCounts[event.rejection] ?? 0) + 1;
      break;
    default:
  }
  if (!isProgress(event)) return;
  draft.lastProgressMs = event.epochMs;
  draft.isAwaitingWorkers = false;
}

function medianGapOf(timesMs: readonly number[]): number | null {
  const gaps = timesMs.slice(1).map((timeMs, index) => timeMs - (timesMs[index] ?? timeMs));
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? null;
}

/** Milliseconds until the last outer step at the pace of the last ones; null where unknown. */
export function leftMsOf({ training, outerStepMs }: RunView): number | null {
  if (training === null || outerStepMs === null) return null;
  return (training.outerSteps - training.outerStep) * outerStepMs;
}
