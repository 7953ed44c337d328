/** The course of a run from the first event of its record on, in bounded memory. */

import type { EventKind, StampedEvent } from '../../../shared/events/run-events.js';
import { sentenceOf } from '../../../shared/events/run-events.js';
import { SIZE_BUCKETS_MAX } from '../../../shared/events/size-losses.js';
import { RunReducer, type RunView } from '../../../shared/events/run-reducer.js';
import { SizedLosses, type SizedSteps } from './step-series.js';
import { PointSeries, POINTS_MAX, type Point } from './step-series.js';
import { StepTimes, TIMED_SPANS_MAX, type TimedSteps } from './step-series.js';
import { WorkerCourses, type WorkerCourse } from './worker-courses.js';

export interface RunHistory {
  readonly view: RunView;
  readonly series: Readonly<Record<SeriesName, readonly Point[]>>;
  readonly timedSteps: readonly TimedSteps[];
  /** Empty for a record without losses by size. */
  readonly sizedSteps: readonly SizedSteps[];
  readonly workers: readonly WorkerCourse[];
  /** The last ones, the newest first. */
  readonly checkpoints: readonly SavedStep[];
  readonly slowJobs: readonly SlowJob[];
  /** Addresses of reports, the newest first. */
  readonly reports: readonly string[];
  /** Deliveries that were repeated, by cause. */
  readonly retriedJobCounts: Readonly<Record<string, number>>;
  /** The last events that people are told, in their order. */
  readonly log: readonly StampedEvent[];
  /** Lines that this version does not know. */
  readonly unknownEventCount: number;
  /** Bytes that this value holds at most, for caches. */
  readonly byteCountMax: number;
}

const SERIES_NAMES = [
  'queryLoss',
  'queryLossBefore',
  /** The fall of the query loss by adaptation, in one outer step. */
  'adaptationGain',
  'supportLoss',
  'tasksPerSecond',
  'gradientNorm',
  'validationLoss',
] as const;
type SeriesName = (typeof SERIES_NAMES)[number];

interface SavedStep {
  readonly outerStep: number;
  readonly digest: string;
  readonly address: string;
  readonly epochMs: number;
}

interface SlowJob {
  readonly outerStep: number;
  readonly jobIndex: number;
  readonly worker: string;
  readonly heldMs: number;
}

/** Events that would fill the end of the log, and that pages show as numbers. */
const FREQUENT: ReadonlySet<EventKind> = new Set(['outer-step', 'progress', 'outer-step-timed']);
const LOG_EVENTS_MAX = 200;
const CHECKPOINTS_MAX = 20;
const SLOW_JOBS_MAX = 20;
const REPORTS_MAX = 20;
const BYTES_A_POINT = 48;
const BYTES_A_SIZE = 256;
const BYTES_A_WORKER = 512;
const BYTES_AN_EVENT = 4_096;

export class GrowingRunHistory {
  readonly #run = new RunReducer();
  readonly #series: Readonly<Record<SeriesName, PointSeries>> = {
    queryLoss: new PointSeries(),
    queryLossBefore: new PointSeries(),
    adaptationGain: new PointSeries(),
    supportLoss: new PointSeries(),
    tasksPerSecond: new PointSeries(),
    gradientNorm: new PointSeries(),
    validationLoss: new PointSeries(),
  };
  readonly #times = new StepTimes();
  readonly #sizes = new SizedLosses();
  readonly #workers = new WorkerCourses();
  readonly #checkpoints: SavedStep[] = [];
  readonly #slowJobs: SlowJob[] = [];
  readonly #reports: string[] = [];
  readonly #retried: Record<string, number> = {};
  readonly #log: StampedEvent[] = [];
  #unknownEventCount = 0;

  admit(event: StampedEvent): void {
    const isOwn = this.#run.admit(event);
    this.#workers.admit(event);
    // An arm has its steps and checkpoints in an output of its own.
    if (isOwn) {
      this.#admitStep(event);
      this.#admitOutcome(event);
    }
    if (!FREQUENT.has(event.kind) && sentenceOf(event).level !== 'detail')
      keepLast(this.#log, event, LOG_EVENTS_MAX);
  }

  addUnknown(lineCount: number): void {
    this.#unknownEventCount += lineCount;
  }

  get history(): RunHistory {
    const series = Object.fromEntries(
      SERIES_NAMES.map((name) => [name, this.#series[name].points()]),
      // Every name has its entry, which the type of `fromEntries` does not show.
    ) as unknown as Record<SeriesName, Point[]>;
    const workers = this.#workers.courses();
    const sizedSteps = this.#sizes.spans();
    return {
      view: this.#run.view(),
      series,
      timedSteps: this.#times.spans(),
      sizedSteps,
      workers,
      checkpoints: [...this.#checkpoints].reverse(),
      slowJobs: [...this.#slowJobs].reverse(),
      reports: [...this.#reports].reverse(),
      retriedJobCounts: { ...this.#retried },
      log: [...this.#log],
      unknownEventCount: this.#unknownEventCount,
      byteCountMax:
        (SERIES_NAMES.length * POINTS_MAX + TIMED_SPANS_MAX * 10) * BYTES_A_POINT +
        sizedSteps.length * SIZE_BUCKETS_MAX * BYTES_A_SIZE +
        workers.length * BYTES_A_WORKER +
        this.#log.length * BYTES_AN_EVENT,
    };
  }

  #admitStep(event: StampedEvent): void {
    const series = this.#series;
    switch (event.kind) {
      case 'run-started':
        for (const name of SERIES_NAMES) series[name].forgetAfter(event.outerStep);
        this.#times.forgetAfter(event.outerStep);
        this.#sizes.forgetAfter(event.outerStep);
        return;
      case 'outer-step':
        series.queryLoss.add(event.outerStep, event.queryLoss);
        if (event.queryLossBefore !== undefined) {
          series.queryLossBefore.add(event.outerStep, event.queryLossBefore);
          series.adaptationGain.add(event.outerStep, event.queryLossBefore - event.queryLoss);
        }
        series.supportLoss.add(event.outerStep, event.supportLoss);
        series.tasksPerSecond.add(event.outerStep, event.tasksPerSecond);
        series.gradientNorm.add(event.outerStep, event.gradientNorm);
        if (event.bySize !== undefined) this.#sizes.add(event.outerStep, event.bySize);
        return;
      case 'outer-step-timed':
        this.#times.add(event.outerStep, event.phasesMs);
        return;
      case 'run-validated':
        series.validationLoss.add(event.outerStep, event.loss);
        return;
      default:
        return;
    }
  }

  #admitOutcome(event: StampedEvent): void {
    switch (event.kind) {
      case 'checkpoint':
      case 'run-finished': {
        const { outerStep, digest, address, epochMs } = event;
        // The last checkpoint of a run is told twice.
        if (this.#checkpoints.at(-1)?.digest !== digest)
          keepLast(this.#checkpoints, { outerStep, digest, address, epochMs }, CHECKPOINTS_MAX);
        return;
      }
      case 'job-copied': {
        const { outerStep, jobIndex, slowWorker: worker, heldMs } = event;
        keepLast(this.#slowJobs, { outerStep, jobIndex, worker, heldMs }, SLOW_JOBS_MAX);
        return;
      }
      case 'job-retried':
        this.#retried[event.cause] = (this.#retried[event.cause] ?? 0) + 1;
        return;
      case 'report-written':
        if (!this.#reports.includes(event.address))
          keepLast(this.#reports, event.address, REPORTS_MAX);
        return;
      default:
        return;
    }
  }
}

function keepLast<Item>(items: Item[], item: Item, countMax: number): void {
  items.push(item);
  if (items.length > countMax) items.shift();
}
