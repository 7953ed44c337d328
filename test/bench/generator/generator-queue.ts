/**
 * Generator training as the `qianmo` command runs it: a coordinator, a Redis and two worker
 * processes on this machine. Figures are tasks per second of the whole run, including the work
 * between outer steps.
 */

import { join } from 'node:path';
import type { RunContext } from '../../../coordinator/runs/call/run-context.js';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { median } from '../../../shared/base/arrays.js';
import { FEATURES } from '../meta-embedding/task-stores.js';
import { openTrainingRoom } from '../meta-embedding/training-room.js';
import {
  baseParameters,
  GENERATOR_METHOD,
  GENERATOR_MODEL,
  storeFolder,
} from './generator-workload.js';

const WORKER_COUNT = 2;
/** Graphs are created and caches filled during these steps. */
const UNCOUNTED_STEPS = 10;

/** The published step, in one job and in one job per worker; and larger steps. */
const STEPS = [
  { tasksPerOuterStep: 25, tasksPerJob: 25 },
  { tasksPerOuterStep: 25, tasksPerJob: 13 },
  { tasksPerOuterStep: 100, tasksPerJob: 25 },
  { tasksPerOuterStep: 200, tasksPerJob: 100 },
] as const;

export interface QueueRunResult {
  readonly tasksPerOuterStep: number;
  readonly tasksPerJob: number;
  readonly stepCount: number;
  readonly tasksPerSecond: number;
  readonly medianStepMs: number;
}

export async function queueRuns(
  folder: string,
  stepCount: number,
  context: RunContext,
): Promise<QueueRunResult[]> {
  let endsMs: number[] = [];
  const noting = {
    ...context,
    sink: (event: RunEvent): void => {
      if (event.kind === 'outer-step') endsMs.push(context.clock.monotonicMs());
      context.sink(event);
    },
  };
  const room = await openTrainingRoom(configOf(folder, 0, STEPS[0]), WORKER_COUNT, noting);
  const results: QueueRunResult[] = [];
  for (const step of STEPS) {
    endsMs = [];
    await room.train(configOf(folder, UNCOUNTED_STEPS + stepCount, step), {
      metaParameters: baseParameters(),
    });
    const counted = endsMs.slice(UNCOUNTED_STEPS - 1);
    const stepsMs = counted.slice(1).map((endMs, index) => endMs - (counted[index] ?? endMs));
    const wholeMs = stepsMs.reduce((sum, ms) => sum + ms, 0);
    results.push({
      ...step,
      stepCount: stepsMs.length,
      tasksPerSecond: (1000 * stepsMs.length * step.tasksPerOuterStep) / wholeMs,
      medianStepMs: median(stepsMs),
    });
  }
  return results;
}

function configOf(
  folder: string,
  outerSteps: number,
  { tasksPerOuterStep, tasksPerJob }: (typeof STEPS)[number],
): RunConfig {
  const name = `generator-${tasksPerOuterStep}-${tasksPerJob}`;
  return RunConfigSchema.parse({
    ...{ run: name, seed: 1, model: GENERATOR_MODEL, method: GENERATOR_METHOD },
    data: {
      logs: 'none: the bench writes the store itself',
      store: storeFolder(folder),
      task: 'task',
      label: { column: 'click' },
      features: FEATURES.map((feature) => ({ name: feature.name, kind: feature.kind })),
    },
    training: {
      ...{ outerSteps: Math.max(1, outerSteps), tasksPerOuterStep },
      leavesPerOuterStepMin: Math.ceil(tasksPerOuterStep / tasksPerJob),
      optimizer: { kind: 'adam', rate: 1e-3 },
      sampling: 'sequential',
      checkpointEveryOuterSteps: 1_000_000,
      startFrom: join(folder, 'base'),
    },
    output: join(folder, 'runs', name),
  });
}
