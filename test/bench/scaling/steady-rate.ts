/** Tasks per second of a run in its steady state, from its log of events. */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { median } from '../../../shared/base/arrays.js';

const LineSchema = z.looseObject({
  kind: z.string(),
  epochMs: z.number(),
  outerStep: z.number().optional(),
  jobCount: z.number().optional(),
});

/**
 * Graphs are captured and caches filled in these steps, and the first ones of a pinned pair do not overlap. A worker with four
 * jobs of an outer step runs unoptimized code for some hundreds of steps.
 */
export const WARM_UP_SHARE = 0.5;
const MS_PER_SECOND = 1_000;

/**
 * The rate between the first step after the warm-up and the last one of the latest start in the log.
 *
 * @throws Error when the log has too few outer steps.
 */
export function steadyTasksPerSecond(eventLog: string, tasksPerOuterStep: number): number {
  const steps = linesOf(eventLog).filter(({ kind }) => kind === 'outer-step');
  const first = steps[Math.floor(steps.length * WARM_UP_SHARE)];
  const last = steps.at(-1);
  if (first?.outerStep === undefined || last?.outerStep === undefined || first === last)
    throw new Error(`${eventLog} has ${steps.length} outer steps`);
  const elapsedMs = last.epochMs - first.epochMs;
  return ((last.outerStep - first.outerStep) * tasksPerOuterStep * MS_PER_SECOND) / elapsedMs;
}

/** The number of deliveries of most outer steps of the latest start in the log. */
export function steadyDeliveryCount(eventLog: string): number {
  return median(linesOf(eventLog).flatMap(({ jobCount }) => jobCount ?? []));
}

/** Those of the latest start in the log. */
function linesOf(eventLog: string): z.infer<typeof LineSchema>[] {
  const texts = readFileSync(eventLog, 'utf8').trim().split('\n');
  const lines = texts.map((line) => LineSchema.parse(JSON.parse(line)));
  return lines.slice(lines.findLastIndex(({ kind }) => kind === 'run-started'));
}
