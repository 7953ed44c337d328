/**
 * Plans the capacity of a run: measures what its outer steps cost with one worker, and predicts the
 * throughput of many on outer steps as the run has them. Nothing of the run is written.
 */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { capacityPlan, type CapacityPlan } from '../../capacity/capacity-plan.js';
import { measuredCosts, stepMsOf, type MeasuredSteps } from '../../capacity/measured-costs.js';
import { OtherProcesses } from '../../capacity/other-processes.js';
import { measuredDispatcher } from '../../capacity/measured-dispatcher.js';
import { sampledSteps, type SampledSteps } from '../../capacity/sampled-steps.js';
import { StepCostsSchema, type StepCosts } from '../../capacity/step-costs.js';
import type { Checkpoints } from '../../checkpoints/checkpoint-writer.js';
import type { PreparedRun } from '../../plan/prepared-run.js';
import { train } from '../../training/outer-loop.js';
import { chosenConfigOf } from '../config-sources.js';
import { dispatchForRun, type RunDispatch } from '../dispatch-for-run.js';
import type { PlanRequestSchema } from '../requests.js';
import { queueAt } from '../call/queue-at.js';
import type { RunContext } from '../call/run-context.js';
import { openPreparedRun } from '../run-files.js';

/** The numbers of workers of the table, beside the one that is asked for. */
const WORKER_COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 2_000, 5_000, 10_000];
/** The first steps of a measurement, in which a worker still meets shapes of jobs for which it has no graphs. */
const WARM_UP_STEPS = 16;
const MEASURED_STEPS = 12;
const STEPS_PER_SIZE = WARM_UP_STEPS + MEASURED_STEPS;
const PROBE_BYTE_COUNT = 1024 * 1024;
const PROBE_COUNT = 8;

export interface PlanResult extends CapacityPlan {
  readonly run: string;
  /** The number of workers that was asked for. */
  readonly workers: number;
  /** With one worker and jobs of the config's size; null if the costs were given. */
  readonly measuredStepMs: number | null;
}

export async function planRun(
  request: z.output<typeof PlanRequestSchema>,
  context: RunContext,
): Promise<PlanResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const given = request.from === undefined ? null : await costsIn(request.from);
  const run = await openPreparedRun(measuredRunOf(config), context);
  const steps = sampledSteps(run.config, run.store);
  const { costs, measuredStepMs } =
    given === null
      ? await costsHere(run, steps, request.redis, context)
      : { costs: given, measuredStepMs: null };
  const counts = [...new Set([...WORKER_COUNTS, request.workers])].sort((a, b) => a - b);
  const plan = capacityPlan(costs, steps, counts, request.cores ?? null);
  return { run: config.run, workers: request.workers, measuredStepMs, ...plan };
}

/** The run has a name of its own, so that one that is under way keeps its lease and its jobs. */
function measuredRunOf(config: RunConfig): RunConfig {
  const outerSteps = Math.max(config.training.outerSteps, STEPS_PER_SIZE);
  return {
    ...config,
    run: `plan-${config.run}`.slice(0, 63),
    training: { ...config.training, outerSteps },
  };
}

async function costsHere(
  run: PreparedRun,
  steps: SampledSteps,
  redis: string | undefined,
  context: RunContext,
): Promise<{ readonly costs: StepCosts; readonly measuredStepMs: number }> {
  const { config } = run;
  const dispatch = await dispatchForRun(
    config,
    { runId: config.run, mayTrain: false },
    { workers: 1, redis },
    context,
  );
  const { jobSize, drawnCount } = steps;
  const other = jobSize > 1 ? Math.ceil(jobSize / 4) : Math.min(4, drawnCount);
  const first = await measured(run, dispatch, { steps, jobSize }, context);
  const second = await measured(run, dispatch, { steps, jobSize: other }, context);
  const bytesPerMs = await serverBytesPerMs(config, dispatch, context);
  return { costs: measuredCosts([first, second], bytesPerMs), measuredStepMs: stepMsOf(first) };
}

/** Trains for a few outer steps with jobs of this size, and keeps nothing. */
async function measured(
  run: PreparedRun,
  { dispatcher: inner }: RunDispatch,
  { steps, jobSize }: { readonly steps: SampledSteps; readonly jobSize: number },
  { clock, signal }: RunContext,
): Promise<MeasuredSteps> {
  const others = new OtherProcesses(process.pid);
  const { dispatcher, steps: noted } = measuredDispatcher(inner, clock, {
    own: processorMs,
    others: () => others.processorMs(),
  });
  const config = { ...run.config, training: steps.trainingWith(jobSize) };
  await train({
    run: { ...run, config },
    dispatcher,
    checkpoints: NOWHERE,
    start: { resume: false, fresh: true },
    stopAtOuterStep: STEPS_PER_SIZE,
    caller: { clock, signal, sink: () => undefined },
  });
  return noted
    .slice(WARM_UP_STEPS)
    .map((step) => ({ ...step, planned: steps.jobsAt(step.outerStep, jobSize) }));
}

const NOWHERE: Checkpoints = {
  write: () => Promise.resolve({ address: 'nowhere', digest: '' }),
  latest: () => Promise.resolve(null),
};

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Puts and fetches blobs as large as those of many jobs together. */
async function serverBytesPerMs(
  { queue }: RunConfig,
  { redisUrl }: RunDispatch,
  context: RunContext,
): Promise<number> {
  if (redisUrl === null) throw new Error('workers have a queue');
  const { clock } = context;
  const { prefix, blobLifetimeMs: lifetimeMs, blobByteCountMax } = queue;
  const producer = await (await queueAt({ redisUrl, prefix }, context)).openProducer('');
  try {
    const blobs = producer.blobs({ lifetimeMs, blobByteCountMax });
    const start = freshNonce();
    const startMs = clock.monotonicMs();
    for (let probe = 0; probe < PROBE_COUNT; probe += 1) {
      const bytes = new Uint8Array(PROBE_BYTE_COUNT);
      bytes.set(Buffer.from(`${start}${probe}`));
      const ref = await blobs.put(bytes);
      await blobs.get(ref);
      await blobs.delete(ref);
    }
    return (2 * PROBE_COUNT * PROBE_BYTE_COUNT) / (clock.monotonicMs() - startMs);
  } finally {
    await producer.close();
  }
}

const EarlierPlanSchema = z.object({ costs: StepCostsSchema });

/** @throws QianmoError `usage` if the file is no output of `qianmo plan --format json`. */
async function costsIn(path: string): Promise<StepCosts> {
  const refused = (found: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what: 'this file has no costs of an outer step',
      where: path,
      expected: 'the output of qianmo plan --format json',
      found,
      cure: 'give such a file to --from, or leave it out to measure here',
    });
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw refused(error instanceof Error ? error.message : String(error));
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refused('text that is not JSON');
  }
  const parsed = EarlierPlanSchema.safeParse(value);
  if (parsed.success) return parsed.data.costs;
  throw refused(z.prettifyError(parsed.error));
}
