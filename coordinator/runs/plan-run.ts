/**
 * Plans the capacity of a run: measures what its outer steps cost in one process, and predicts the throughput of many
 * workers. Nothing of the run is written.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import {
  capacityPlan,
  type Drawn,
  plannedStep,
  type PlannedStep,
  type Prediction,
} from '../plan/capacity.js';
import { measuringDispatcher, stepCosts, type StepCosts } from '../plan/capacity.js';
import type { Checkpoints } from '../checkpoints/checkpoint-writer.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { stepPlanner } from '../plan/step-plan.js';
import { train } from '../training/outer-loop.js';
import { chosenConfigOf } from './places.js';
import { dispatchForRun } from './dispatch-for-run.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import { openPreparedRun } from './run-files.js';

/** The numbers of workers of the table, in addition to the one that is asked for. */
const WORKER_COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000];
/** The first steps of a measurement, in which the compute process still compiles graphs for new shapes. */
const WARM_UP_STEPS = 16;
const MEASURED_STEPS = 40;
const STEP_COUNT = WARM_UP_STEPS + MEASURED_STEPS;
/** Predictions are means over this many of the measured outer steps. */
const PREDICTED_STEPS = 8;
const BYTES_PER_MS_AND_GBIT = 1e9 / 8 / 1000;

interface PlanResult {
  readonly run: string;
  /** The number of workers that was asked for. */
  readonly workers: number;
  readonly drawn: Drawn;
  /** Tasks or rows of an outer step. */
  readonly drawnCount: number;
  readonly costs: StepCosts;
  readonly byWorkers: readonly Prediction[];
}

export async function planRun(
  request: RequestOf<'plan'>,
  context: RunContext,
): Promise<PlanResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const run = await openPreparedRun(measuredRunOf(config), context);
  const costs = await measuredCosts(run, context);
  const steps = await plannedSteps(run, costs);
  const { training } = config;
  const drawnCount = training.rowsPerOuterStep ?? training.tasksPerOuterStep;
  const counts = [...new Set([...WORKER_COUNTS, request.workers])].sort((a, b) => a - b);
  const terms = { costs, drawnCount, bytesPerMs: request.gbitPerS * BYTES_PER_MS_AND_GBIT };
  return {
    ...{ run: config.run, workers: request.workers, costs, drawnCount },
    drawn: training.rowsPerOuterStep === undefined ? 'tasks' : 'rows',
    byWorkers: capacityPlan(steps, counts, terms),
  };
}

/** The run with outer steps that do not overlap, and that nothing ends or interrupts. */
function measuredRunOf(config: RunConfig): RunConfig {
  const { earlyStopping: _stopping, staleness: _staleness, ...training } = config.training;
  const outerSteps = Math.max(training.outerSteps, STEP_COUNT);
  return { ...config, training: { ...training, outerSteps } };
}

/** Trains for a few outer steps, and keeps nothing. */
async function measuredCosts(run: PreparedRun, context: RunContext): Promise<StepCosts> {
  const { config } = run;
  const choice = { inProcess: true, workers: 1 };
  const work = { runId: config.run, mayTrain: false };
  const { dispatcher: inner } = await dispatchForRun(config, work, choice, context);
  const { clock, signal } = context;
  const { dispatcher, steps } = measuringDispatcher(inner, clock, processorMs);
  await train({
    ...{ run, dispatcher, checkpoints: NOWHERE },
    start: { resume: false, fresh: true },
    stopAtOuterStep: STEP_COUNT,
    caller: { clock, signal, sink: () => undefined },
  });
  return stepCosts(steps.slice(WARM_UP_STEPS));
}

async function plannedSteps(
  { config, store, spec }: PreparedRun,
  { hasRowPacks }: StepCosts,
): Promise<PlannedStep[]> {
  const planner = stepPlanner(config, store, STEP_COUNT, hasRowPacks);
  const steps: PlannedStep[] = [];
  for (let step = WARM_UP_STEPS; step < STEP_COUNT; step += MEASURED_STEPS / PREDICTED_STEPS)
    steps.push(plannedStep(await planner.take(step), spec));
  return steps;
}

const NOWHERE: Checkpoints = {
  write: () => Promise.resolve({ address: 'nowhere', digest: '' }),
  latest: () => Promise.resolve(null),
};

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
