/** The course of a run from the first event of its record on, in bounded memory. */

import {
  sentenceOf,
  type EventKind,
  type StampedEvent,
  type StampedEventOf,
} from '../../shared/events/run-events.js';
import { RunReducer, type RunView } from '../../shared/events/run-reducer.js';
import type { SizeLosses } from '../../shared/events/size-losses.js';
import { RecordFollower, type RunRecord } from './run-record.js';

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Means over consecutive outer steps. */
interface StepSpan {
  readonly firstOuterStep: number;
  readonly lastOuterStep: number;
  /** By name, the sum of values times their weights, and the sum of the weights. */
  readonly sums: ReadonlyMap<string, readonly [sum: number, weight: number]>;
}

/** Null for a value that no step of the span has. */
export function meanIn({ sums }: StepSpan, name: string): number | null {
  const [sum = 0, weight = 0] = sums.get(name) ?? [];
  return weight > 0 ? sum / weight : null;
}

/** Named values of outer steps, gathered in spans of equally many. When there are too many, every two neighbours become one. */
export class StepMeans {
  readonly #spansMax: number;
  #spans: (StepSpan & { readonly stepCount: number })[] = [];
  #stepsPerSpan = 1;

  constructor(spansMax: number) {
    this.#spansMax = spansMax;
  }

  get spans(): readonly StepSpan[] {
    return this.#spans;
  }

  /** Values at a step before the last one are left out, and so are those that are not finite. */
  add(outerStep: number, values: Readonly<Record<string, readonly [number, number]>>): void {
    const sums = new Map(Object.entries(values).filter(([, pair]) => pair.every(Number.isFinite)));
    const newest = this.#spans.at(-1);
    if (newest !== undefined && outerStep < newest.lastOuterStep) return;
    const stepCount = newest?.lastOuterStep === outerStep ? 0 : 1;
    const span = { firstOuterStep: outerStep, lastOuterStep: outerStep, stepCount, sums };
    if (newest !== undefined && newest.stepCount + stepCount <= this.#stepsPerSpan)
      this.#spans[this.#spans.length - 1] = unite(newest, span);
    else this.#spans.push(span);
    if (this.#spans.length > this.#spansMax) this.#halve();
  }

  /** Forgets the spans with later steps: a run that is resumed repeats the steps since its checkpoint. */
  forgetAfter(outerStep: number): void {
    this.#spans = this.#spans.filter(({ lastOuterStep }) => lastOuterStep <= outerStep);
  }

  points(name: string): Point[] {
    return this.#spans.flatMap((span) => {
      const y = meanIn(span, name);
      return y === null ? [] : [{ x: span.lastOuterStep, y }];
    });
  }

  #halve(): void {
    this.#stepsPerSpan *= 2;
    this.#spans = this.#spans.flatMap((span, index) => {
      const next = this.#spans[index + 1];
      if (index % 2 === 1) return [];
      return next === undefined ? [span] : [unite(span, next)];
    });
  }
}

type CountedSpan = StepSpan & { readonly stepCount: number };

function unite(earlier: CountedSpan, later: CountedSpan): CountedSpan {
  const sums = new Map(earlier.sums);
  for (const [name, [sum, weight]] of later.sums) {
    const [before = 0, weightBefore = 0] = sums.get(name) ?? [];
    sums.set(name, [before + sum, weightBefore + weight]);
  }
  return {
    firstOuterStep: earlier.firstOuterStep,
    lastOuterStep: later.lastOuterStep,
    stepCount: earlier.stepCount + later.stepCount,
    sums,
  };
}

/** A worker as its events describe it. One that is started again has another name. */
interface WorkerCourse {
  readonly worker: string;
  /** `stopped` in order, `exited` by itself or killed. */
  state: 'starts' | 'waits' | 'computes' | 'rests' | 'stopped' | 'exited';
  /** Exit code, signal or the words of the system; null while it lives or if it stopped in order. */
  end: string | null;
  /** `CPU`, or the name of its GPU; null before it is known. */
  device: string | null;
  /** Resident memory of its compute process after its last job. */
  residentByteCount: number | null;
  jobId: string | null;
  lastComputeMs: number | null;
  refusedResultCount: number;
  lastEventMs: number;
}

interface SavedStep {
  readonly outerStep: number;
  readonly digest: string;
  readonly epochMs: number;
}

/** Events that would fill the end of the log, and that pages show as numbers. */
const FREQUENT: ReadonlySet<EventKind> = new Set(['outer-step', 'progress', 'outer-step-timed']);
const LOG_EVENTS_MAX = 200;
const CHECKPOINTS_MAX = 20;
const REPORTS_MAX = 20;
const WORKERS_MAX = 1_000;

export class RunHistory {
  /** Losses, speed and gradient norm. */
  readonly course = new StepMeans(1_000);
  readonly validation = new StepMeans(1_000);
  /** Milliseconds by phase. */
  readonly times = new StepMeans(120);
  /** Losses by size; names as `sizeName` gives them. */
  readonly sizes = new StepMeans(60);
  /** The buckets of the last outer step. */
  sizeNames: readonly string[] = [];
  /** The last ones, in their order. */
  readonly checkpoints: SavedStep[] = [];
  readonly reports: string[] = [];
  /** Deliveries that were repeated, by cause. */
  readonly retriedJobCounts: Record<string, number> = {};
  /** The last events that people are told. */
  readonly log: StampedEvent[] = [];
  /** Lines that this version does not know. */
  unknownCount = 0;
  readonly #run = new RunReducer();
  readonly #workers = new Map<string, WorkerCourse>();

  get view(): RunView {
    return this.#run.view();
  }

  /** The present first, in the order of their names. */
  get workers(): WorkerCourse[] {
    const place = (worker: WorkerCourse): number => Number(isGone(worker));
    return [...this.#workers.values()].sort(
      (a, b) => place(a) - place(b) || (a.worker < b.worker ? -1 : 1),
    );
  }

  admit(event: StampedEvent): void {
    const isOwn = this.#run.admit(event);
    if (event.worker !== undefined) admitToWorker(this.#worker(event.worker, event.epochMs), event);
    if (event.kind === 'result-refused')
      this.#worker(event.fromWorker, event.epochMs).refusedResultCount += 1;
    // An arm has its steps and checkpoints in an output of its own.
    if (isOwn) this.#admitOwn(event);
    if (!FREQUENT.has(event.kind) && sentenceOf(event).level !== 'detail')
      keepLast(this.log, event, LOG_EVENTS_MAX);
  }

  #admitOwn(event: StampedEvent): void {
    switch (event.kind) {
      case 'run-started':
        for (const means of [this.course, this.validation, this.times, this.sizes])
          means.forgetAfter(event.outerStep);
        return;
      case 'outer-step':
        this.course.add(event.outerStep, courseValues(event));
        if (event.bySize === undefined) return;
        this.sizes.add(event.outerStep, sizeValues(event.bySize));
        this.sizeNames = event.bySize.sizes;
        return;
      case 'outer-step-timed': {
        const pairs = Object.entries(event.phasesMs).map(
          ([phase, ms]) => [phase, [ms, 1]] as const,
        );
        this.times.add(event.outerStep, Object.fromEntries(pairs));
        return;
      }
      case 'run-validated':
        this.validation.add(event.outerStep, { loss: [event.loss, 1] });
        return;
      case 'checkpoint':
      case 'run-finished': {
        const { outerStep, digest, epochMs } = event;
        // The last checkpoint of a run is told twice.
        if (this.checkpoints.at(-1)?.digest !== digest)
          keepLast(this.checkpoints, { outerStep, digest, epochMs }, CHECKPOINTS_MAX);
        return;
      }
      case 'job-retried':
        this.retriedJobCounts[event.cause] = (this.retriedJobCounts[event.cause] ?? 0) + 1;
        return;
      case 'report-written':
        if (!this.reports.includes(event.address))
          keepLast(this.reports, event.address, REPORTS_MAX);
        return;
      default:
        return;
    }
  }

  #worker(worker: string, epochMs: number): WorkerCourse {
    const known = this.#workers.get(worker) ?? {
      ...{ worker, state: 'starts', end: null, device: null, residentByteCount: null },
      ...{ jobId: null, lastComputeMs: null, refusedResultCount: 0 },
      lastEventMs: epochMs,
    };
    known.lastEventMs = epochMs;
    // The one that was heard of last is the last of the map.
    this.#workers.delete(worker);
    this.#workers.set(worker, known);
    const [oldest] = this.#workers.keys();
    if (oldest !== undefined && this.#workers.size > WORKERS_MAX) this.#workers.delete(oldest);
    return known;
  }
}

export function isGone({ state }: WorkerCourse): boolean {
  return state === 'stopped' || state === 'exited';
}

function courseValues(event: StampedEventOf<'outer-step'>): Record<string, readonly [number, 1]> {
  const { queryLoss, queryLossBefore, supportLoss, tasksPerSecond, gradientNorm } = event;
  return {
    ...{ queryLoss: [queryLoss, 1], supportLoss: [supportLoss, 1] },
    ...{ tasksPerSecond: [tasksPerSecond, 1], gradientNorm: [gradientNorm, 1] },
    ...(queryLossBefore === undefined
      ? {}
      : {
          queryLossBefore: [queryLossBefore, 1],
          adaptationGain: [queryLossBefore - queryLoss, 1],
        }),
  };
}

type SizeValue = 'tasks' | 'queryLoss' | 'queryLossBefore' | 'supportLoss' | 'gain';

/** The name of a value of a size bucket in `sizes`; `tasks` is a sum without weight. */
export function sizeName(size: string, value: SizeValue): string {
  return `${size} ${value}`;
}

function sizeValues(losses: SizeLosses): Record<string, readonly [number, number]> {
  const { sizes, taskCounts, weights, queryLossSums, supportLossSums } = losses;
  return Object.fromEntries(
    sizes.flatMap((size, bucket) => {
      const weight = weights[bucket] ?? 0;
      const [after = 0, support = 0] = [queryLossSums[bucket], supportLossSums[bucket]];
      const before = losses.queryLossBeforeSums?.[bucket];
      const values: Partial<Record<SizeValue, readonly [number, number]>> = {
        tasks: [taskCounts[bucket] ?? 0, 0],
        queryLoss: [after, weight],
        supportLoss: [support, weight],
        ...(before === undefined
          ? {}
          : { queryLossBefore: [before, weight], gain: [before - after, weight] }),
      };
      return Object.entries(values).map(([value, pair]) => [`${size} ${value}`, pair] as const);
    }),
  );
}

function admitToWorker(worker: WorkerCourse, event: StampedEvent): void {
  const changeTo = (state: WorkerCourse['state']): void => {
    worker.state = state;
    worker.jobId = null;
  };
  switch (event.kind) {
    case 'compute-ready': {
      const { device, gpu } = event.device;
      worker.device = device === 'cpu' ? 'CPU' : (gpu?.name ?? 'GPU');
      return;
    }
    case 'job-started':
      changeTo('computes');
      worker.jobId = event.jobId;
      return;
    case 'job-finished':
      worker.lastComputeMs = event.computeMs;
      worker.residentByteCount = event.residentByteCount ?? worker.residentByteCount;
      return changeTo('waits');
    case 'worker-ready':
    case 'job-failed':
    case 'job-handed-back':
      return changeTo('waits');
    case 'worker-resting':
      return changeTo('rests');
    case 'worker-stopped':
      return changeTo('stopped');
    case 'worker-exited':
      // A worker that has said that it stops exits next.
      if (worker.state === 'stopped') return;
      worker.end = event.reason ?? event.signal ?? `exit code ${event.exitCode}`;
      return changeTo('exited');
    default:
      return;
  }
}

/** Follows a record, and begins anew where another one has taken its place. */
export class FollowedHistory {
  readonly #follower: RecordFollower;
  history = new RunHistory();

  constructor(record: RunRecord) {
    this.#follower = new RecordFollower(record);
  }

  async catchUp(): Promise<RunHistory> {
    for await (const { events, unknownCount, isAnew } of this.#follower.parts()) {
      if (isAnew) this.history = new RunHistory();
      for (const event of events) this.history.admit(event);
      this.history.unknownCount += unknownCount;
    }
    return this.history;
  }
}

function keepLast<Item>(items: Item[], item: Item, countMax: number): void {
  items.push(item);
  if (items.length > countMax) items.shift();
}
