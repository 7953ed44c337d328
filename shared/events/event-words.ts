/** The form of an entry in the table of event kinds, the stamp that every event gets, and words of several kinds. */

import type { z } from 'zod';
import { set, type MetricUpdate } from '../metrics/metric-definitions.js';
import type { COMPUTE_END_REASONS } from '../names/event-terms.js';
import { measuredPart, sizeMeansOf, type SizeLosses } from './size-losses.js';

/** The origin of an event: a worker, or the coordinator where no worker is named. */
export interface EventSource {
  /** Absent before a run is known, and for a worker that serves none yet. */
  readonly runId?: string | undefined;
  /** The name of the worker, as results carry it. */
  readonly worker?: string | undefined;
  /** The place of the worker among the local workers of a supervisor, from 0. */
  readonly workerIndex?: number | undefined;
  /** The time of the event in milliseconds since the Unix epoch; the present when absent. */
  readonly epochMs?: number | undefined;
}

export interface EventStamp extends EventSource {
  readonly epochMs: number;
  /** Outer steps that were complete; absent outside training. */
  readonly outerStep?: number | undefined;
}

/** Details are kept in the log and not shown on a terminal. */
export type EventLevel = 'detail' | 'notice' | 'warning';

export type FieldsOf<Shape extends z.ZodRawShape> = keyof Shape extends never
  ? // zod gives an empty shape the type of a record without keys, which would forbid `kind`.
    unknown
  : Readonly<z.output<z.ZodObject<Shape>>>;
type Stamped<Shape extends z.ZodRawShape> = FieldsOf<Shape> & EventStamp;

interface Traits<Event> {
  /** Counters and gauges that follow the event. A process applies those that it exports. */
  readonly metrics?: (event: Event) => readonly MetricUpdate[];
  /** Shows that the run moves: it neither stalls nor waits for workers. */
  readonly isProgress?: true;
}

/** The words, level and metrics of an event of one kind. */
export interface EventWords<Event> extends Traits<Event> {
  readonly level: (event: Event) => EventLevel;
  /** The event in words. */
  readonly text: (event: Event) => string;
}

type Define = <Shape extends z.ZodRawShape>(
  shape: Shape,
  text: (event: Stamped<Shape>) => string,
  traits?: Traits<Stamped<Shape>>,
) => EventWords<Stamped<Shape>> & { readonly shape: Shape };

function atLevel(level: EventLevel): Define {
  return (shape, text, traits = {}) => ({ shape, level: () => level, text, ...traits });
}

export const detail = atLevel('detail');
export const notice = atLevel('notice');
export const warning = atLevel('warning');

/** Values that the next run may not have. */
export const RUN_METRICS = [
  'qianmo_run_info',
  'qianmo_query_loss_before_adaptation',
  'qianmo_query_loss_by_size',
  'qianmo_query_loss_before_adaptation_by_size',
  'qianmo_support_loss_by_size',
] as const;

export function outerStepGauges({
  outerStep,
  outerSteps,
  epochMs,
}: {
  readonly outerStep: number;
  readonly outerSteps: number;
  readonly epochMs: number;
}): MetricUpdate[] {
  return [
    set('qianmo_outer_step', {}, outerStep),
    set('qianmo_outer_steps_planned', {}, outerSteps),
    set('qianmo_last_outer_step_timestamp_seconds', {}, seconds(epochMs)),
  ];
}

/** A size without tasks in this outer step keeps its losses. */
export function sizeGauges(losses: SizeLosses): MetricUpdate[] {
  return sizeMeansOf(losses, measuredPart(losses)).flatMap(
    ({ size, queryLoss, queryLossBefore, supportLoss }) => [
      ...(queryLoss === null ? [] : [set('qianmo_query_loss_by_size', { size }, queryLoss)]),
      ...(queryLossBefore === null
        ? []
        : [set('qianmo_query_loss_before_adaptation_by_size', { size }, queryLossBefore)]),
      ...(supportLoss === null ? [] : [set('qianmo_support_loss_by_size', { size }, supportLoss)]),
    ],
  );
}

export const COMPUTE_ENDS: Readonly<Record<(typeof COMPUTE_END_REASONS)[number], string>> = {
  deadline: 'its job passed the deadline',
  aborted: 'its job was aborted',
  'bad-message': 'it sent an invalid message',
  'lost-channel': 'the channel to it broke',
  'not-started': 'it did not start',
  replaced: 'another one replaces it',
  'other-instructions': 'the next job needs another instruction set',
  closed: 'it was closed',
};

/** Null for an event of the coordinator. */
export function sourceOf({ worker, workerIndex }: EventStamp): string | null {
  if (workerIndex !== undefined) return `worker ${workerIndex + 1}`;
  return worker === undefined ? null : `worker ${worker}`;
}

export function workerOf(stamp: EventStamp): string {
  return sourceOf(stamp) ?? 'the worker';
}

export function prefixOf(stamp: EventStamp): string {
  const source = sourceOf(stamp);
  return source === null ? '' : `${source}: `;
}

export function endOf(end: {
  readonly exitCode: number | null;
  readonly signal: string | null;
}): string {
  return end.signal === null ? `exit code ${end.exitCode ?? 'unknown'}` : `signal ${end.signal}`;
}

export function seconds(durationMs: number): number {
  return durationMs / 1000;
}

/** For sentences of events; `1.5 s`. */
export function secondsText(durationMs: number): string {
  return `${seconds(durationMs).toFixed(1)} s`;
}

/** The digits by which ids, metrics and sentences name a bundle. */
export const BUNDLE_DIGIT_COUNT = 12;

export function shortDigest(digest: string): string {
  return digest.slice(0, BUNDLE_DIGIT_COUNT);
}
