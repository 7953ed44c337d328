/** Words and metrics of several kinds of events. */

import { set, type MetricUpdate } from '../metrics/metric-definitions.js';
import type { COMPUTE_END_REASONS } from '../names/event-terms.js';
import type { EventStamp } from './event-kind.js';
import { measuredPart, sizeMeansOf, type SizeLosses } from './size-losses.js';

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

/** Enough of a bundle's digest for people. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
