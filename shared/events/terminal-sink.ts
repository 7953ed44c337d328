/** Run events as people read them: one updating line on a terminal, plain lines elsewhere. */

import type { Clock } from '../base/clock.js';
import { assertNever } from '../base/errors.js';
import type { RunEvent, RunEventSink } from './run-events.js';

export interface TerminalSinkOptions {
  readonly stream: { write(text: string): unknown; readonly columns?: number };
  readonly isTTY: boolean;
  readonly clock: Clock;
}

export interface TerminalSink extends RunEventSink {
  /** Ends the updating line, so that what is written next starts a line of its own. */
  end(): void;
}

/** A terminal is redrawn, and a log written to, no more often than this. */
const REDRAW_INTERVAL_MS = 100;
const PLAIN_LINE_INTERVAL_MS = 5_000;
const BAR_WIDTH = 20;
const COLUMNS_DEFAULT = 80;
/** Weight of the newest outer step in the displayed speed. */
const SPEED_SMOOTHING = 0.1;
const CLEAR_LINE = '\r\u001b[K';

type OuterStepEvent = Extract<RunEvent, { kind: 'outer-step' }>;
type ProgressEvent = Extract<RunEvent, { kind: 'progress' }>;

/**
 * Events that come often (`outer-step`, `progress`) share the updating line and are rate-limited,
 * except the last of each; every other event is a line of its own.
 */
export function createTerminalSink(options: TerminalSinkOptions): TerminalSink {
  const { stream, isTTY, clock } = options;
  const pace = pacing(clock);
  let drawnLine: string | null = null;
  let shownMs = Number.NEGATIVE_INFINITY;
  let shownStage: string | null = null;

  const writeLine = (line: string): void => {
    stream.write(isTTY && drawnLine !== null ? `${CLEAR_LINE}${line}\n` : `${line}\n`);
    if (drawnLine !== null) stream.write(drawnLine);
  };
  const showUpdating = (line: string, stage: string, isLast: boolean): void => {
    const nowMs = clock.monotonicMs();
    const intervalMs = isTTY ? REDRAW_INTERVAL_MS : PLAIN_LINE_INTERVAL_MS;
    if (!isLast && stage === shownStage && nowMs - shownMs < intervalMs) return;
    shownMs = nowMs;
    shownStage = isLast ? null : stage;
    if (!isTTY) {
      stream.write(`${line}\n`);
      return;
    }
    // A line that wraps cannot be redrawn in place.
    const drawn = line.slice(0, (stream.columns ?? COLUMNS_DEFAULT) - 1);
    drawnLine = isLast ? null : drawn;
    stream.write(`${CLEAR_LINE}${drawn}${isLast ? '\n' : ''}`);
  };
  const leaveUpdating = (): void => {
    if (drawnLine !== null) stream.write('\n');
    drawnLine = null;
  };

  const show: RunEventSink = (event) => {
    switch (event.kind) {
      case 'outer-step':
        pace.observe(event);
        showUpdating(
          outerStepLine(event, pace, isTTY),
          'training',
          event.outerStep >= event.outerSteps,
        );
        return;
      case 'progress':
        showUpdating(progressLine(event, isTTY), event.stage, event.done === event.total);
        return;
      case 'run-started':
        pace.start(event.outerStep);
        writeLine(lineOf(event));
        return;
      case 'run-finished':
        leaveUpdating();
        writeLine(lineOf(event));
        return;
      case 'checkpoint':
      case 'worker':
      case 'job-retried':
      case 'notice':
      case 'warning':
        writeLine(lineOf(event));
        return;
      default:
        assertNever(event);
    }
  };
  return Object.assign(show, { end: leaveUpdating });
}

/** Events that are a line of their own. */
function lineOf(event: Exclude<RunEvent, OuterStepEvent | ProgressEvent>): string {
  switch (event.kind) {
    case 'run-started':
      return event.outerStep === 0
        ? `run ${event.runId}: ${event.outerSteps} outer steps`
        : `run ${event.runId}: going on after outer step ${event.outerStep} of ${event.outerSteps}`;
    case 'checkpoint':
      return `checkpoint of outer step ${event.outerStep}: ${event.address}`;
    case 'worker':
      return `worker ${event.state}: ${event.detail}`;
    case 'job-retried':
      return `job ${event.jobIndex} is tried again: ${event.reason}`;
    case 'notice':
      return event.message;
    case 'warning':
      return `warning: ${event.message}`;
    case 'run-finished':
      return `finished at outer step ${event.outerStep}: ${event.address}\nmeta-parameters ${event.digest}`;
  }
}

interface Pacing {
  start(outerStep: number): void;
  observe(event: OuterStepEvent): void;
  readonly tasksPerSecond: number;
  /** Null before the first outer step of this process. */
  remainingMs(event: OuterStepEvent): number | null;
}

function pacing(clock: Clock): Pacing {
  let startMs = clock.monotonicMs();
  let startOuterStep = 0;
  let smoothed: number | null = null;
  return {
    start(outerStep) {
      startMs = clock.monotonicMs();
      startOuterStep = outerStep;
      smoothed = null;
    },
    observe({ tasksPerSecond }) {
      smoothed =
        smoothed === null
          ? tasksPerSecond
          : (1 - SPEED_SMOOTHING) * smoothed + SPEED_SMOOTHING * tasksPerSecond;
    },
    get tasksPerSecond() {
      return smoothed ?? 0;
    },
    remainingMs({ outerStep, outerSteps }) {
      const doneSteps = outerStep - startOuterStep;
      if (doneSteps <= 0) return null;
      return ((clock.monotonicMs() - startMs) / doneSteps) * (outerSteps - outerStep);
    },
  };
}

function outerStepLine(event: OuterStepEvent, pace: Pacing, withBar: boolean): string {
  const { outerStep, outerSteps, queryLoss, supportLoss, gradientNorm } = event;
  const remainingMs = pace.remainingMs(event);
  // The global method does not adapt, so both losses are one.
  // Other rows than those of the loss: their difference is not what adaptation gains.
  const support = supportLoss === queryLoss ? '' : ` (support ${supportLoss.toFixed(4)})`;
  return [
    ...(withBar ? [barOf(outerStep / outerSteps)] : []),
    `step ${outerStep}/${outerSteps}`,
    `loss ${queryLoss.toFixed(4)}${support}`,
    `${speedOf(pace.tasksPerSecond)} tasks/s`,
    ...(remainingMs === null || outerStep >= outerSteps ? [] : [`${durationOf(remainingMs)} left`]),
    `norm ${gradientNorm.toPrecision(3)}`,
  ].join('  ');
}

function progressLine({ stage, done, total }: ProgressEvent, withBar: boolean): string {
  if (total === null) return `${stage}  ${grouped(done)}`;
  const share = total === 0 ? 1 : done / total;
  const percent = `${Math.floor(share * 100)} %`;
  return `${withBar ? `${barOf(share)}  ` : ''}${stage}  ${grouped(done)}/${grouped(total)}  ${percent}`;
}

function barOf(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
  return `[${'='.repeat(filled)}${' '.repeat(BAR_WIDTH - filled)}]`;
}

function speedOf(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : grouped(Math.round(perSecond));
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

function durationOf(durationMs: number): string {
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
