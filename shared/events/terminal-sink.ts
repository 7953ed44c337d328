/** Events as people read them: one updating line on a terminal, plain lines elsewhere. */

import type { Clock } from '../base/clock.js';
import { printableText } from '../base/printable-text.js';
import {
  sentenceOf,
  type EventStamp,
  type StampedEventOf,
  type StampedEventSink,
} from './run-events.js';
import { leftMsOf, RunReducer, type RunView } from './run-reducer.js';

interface TerminalSinkOptions {
  readonly stream: { write(text: string): unknown; readonly columns?: number };
  readonly isTTY: boolean;
  readonly clock: Clock;
  /** Writes events of level `detail`, too. */
  readonly showsDetails?: boolean;
}

interface TerminalSink extends StampedEventSink {
  /** Ends the updating line, so that the next output starts on a line of its own. */
  end(): void;
}

/** The least time between two updates of a terminal. */
const REDRAW_INTERVAL_MS = 100;
/** Between two plain lines, it grows with the time that the stage has taken. */
const PLAIN_LINE_INTERVAL_MS = { min: 5_000, max: 60_000 } as const;
const PLAIN_LINE_INTERVAL_SHARE = 0.5;
const BAR_WIDTH = 20;
const COLUMNS_DEFAULT = 80;
const CLEAR_LINE = '\r\u001b[K';

type OuterStepEvent = StampedEventOf<'outer-step'>;
type ProgressEvent = StampedEventOf<'progress'>;

/**
 * Frequent events share the updating line, and all but the last of each stage have a limited rate.
 * Every other event is a line of its own, unless it is a detail.
 */
export function createTerminalSink(options: TerminalSinkOptions): TerminalSink {
  const { isTTY, showsDetails = false } = options;
  const run = new RunReducer();
  const lines = updatingLine(options);
  /** Each call of a command may start processes on a device that was named before. */
  const devices = new Set<string>();

  const show: StampedEventSink = (event) => {
    run.admit(event);
    switch (event.kind) {
      case 'outer-step':
        lines.update(
          () => outerStepLine(event, run, isTTY),
          'training',
          event.outerStep >= event.outerSteps,
        );
        return;
      case 'progress':
        lines.update(() => progressLine(event, isTTY), event.stage, event.done === event.total);
        return;
      case 'job-finished':
        if (isUnsupervised(event)) lines.update(() => sentenceOf(event).text, 'jobs', false);
        return;
      default:
    }
    if (event.kind === 'run-finished') lines.end();
    const { level, text } = sentenceOf(event);
    if (event.kind === 'compute-ready') {
      if (devices.has(text)) return;
      devices.add(text);
    }
    const isOwnFailure = event.kind === 'job-failed' && isUnsupervised(event);
    if (level === 'warning' || isOwnFailure) lines.write(`warning: ${text}`);
    else if (level === 'notice' || showsDetails) lines.write(text);
  };
  return Object.assign(show, { end: () => lines.end() });
}

/** A worker without a supervisor has this terminal to itself, so it shows its jobs. */
function isUnsupervised({ worker, workerIndex }: EventStamp): boolean {
  return worker !== undefined && workerIndex === undefined;
}

interface UpdatingLine {
  /** Writes a separate line above the updating one. */
  write(line: string): void;
  /** @param text is called where the line is drawn. */
  update(text: () => string, stage: string, isLast: boolean): void;
  end(): void;
}

function updatingLine({ stream, isTTY, clock }: TerminalSinkOptions): UpdatingLine {
  let drawnLine: string | null = null;
  let shownMs = Number.NEGATIVE_INFINITY;
  let shownStage: string | null = null;
  let stageStartMs = 0;
  const intervalMsAt = (nowMs: number): number => {
    const { min, max } = PLAIN_LINE_INTERVAL_MS;
    const grown = PLAIN_LINE_INTERVAL_SHARE * (nowMs - stageStartMs);
    return isTTY ? REDRAW_INTERVAL_MS : Math.min(max, Math.max(min, grown));
  };
  return {
    write: (text) => {
      const line = printableText(text);
      stream.write(isTTY && drawnLine !== null ? `${CLEAR_LINE}${line}\n` : `${line}\n`);
      if (drawnLine !== null) stream.write(drawnLine);
    },
    update: (text, stage, isLast) => {
      const nowMs = clock.monotonicMs();
      if (!isLast && stage === shownStage && nowMs - shownMs < intervalMsAt(nowMs)) return;
      if (stage !== shownStage) stageStartMs = nowMs;
      shownMs = nowMs;
      shownStage = isLast ? null : stage;
      const line = printableText(text());
      if (!isTTY) {
        stream.write(`${line}\n`);
        return;
      }
      // A line that wraps cannot be redrawn in place. A terminal that has no size says 0.
      const { columns = 0 } = stream;
      const drawn = line.slice(0, (columns > 0 ? columns : COLUMNS_DEFAULT) - 1);
      drawnLine = isLast ? null : drawn;
      stream.write(`${CLEAR_LINE}${drawn}${isLast ? '\n' : ''}`);
    },
    end: () => {
      if (drawnLine !== null) stream.write('\n');
      drawnLine = null;
    },
  };
}

function outerStepLine(event: OuterStepEvent, run: RunReducer, withBar: boolean): string {
  const { outerStep, outerSteps, queryLoss, supportLoss, gradientNorm } = event;
  const view = run.view();
  const leftMs = leftMsOf(view);
  return [
    ...(withBar ? [barOf(outerStep / outerSteps)] : []),
    `step ${outerStep}/${outerSteps}`,
    `loss ${queryLoss.toFixed(4)}${lossNote(view, { queryLoss, supportLoss })}`,
    `${speedOf(run.meanTasksPerSecond ?? 0)} tasks/s`,
    ...(leftMs === null || outerStep >= outerSteps ? [] : [`${durationOf(leftMs)} left`]),
    `norm ${gradientNorm.toPrecision(3)}`,
  ].join('  ');
}

/** The query loss before adaptation or, where it is not measured, the support loss, which is of other rows. */
function lossNote(
  { training }: RunView,
  { queryLoss, supportLoss }: Pick<OuterStepEvent, 'queryLoss' | 'supportLoss'>,
): string {
  const lossBefore = training?.adaptation?.queryLossBefore;
  if (lossBefore !== undefined) return ` (${lossBefore.toFixed(4)} before adaptation)`;
  // The global method does not adapt, so the two losses are equal.
  return supportLoss === queryLoss ? '' : ` (support ${supportLoss.toFixed(4)})`;
}

function progressLine({ stage, done, total }: ProgressEvent, withBar: boolean): string {
  if (total === null) return `${stage}  ${groupDigits(done)}`;
  const share = total === 0 ? 1 : done / total;
  const percent = `${Math.floor(share * 100)} %`;
  return `${withBar ? `${barOf(share)}  ` : ''}${stage}  ${groupDigits(done)}/${groupDigits(total)}  ${percent}`;
}

function barOf(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
  return `[${'='.repeat(filled)}${' '.repeat(BAR_WIDTH - filled)}]`;
}

function speedOf(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : groupDigits(Math.round(perSecond));
}

/** `1,234,567`. Loading a locale for it would take longer than some commands. */
function groupDigits(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

function durationOf(durationMs: number): string {
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
