/** The undisturbed run: what every disturbed one must come to, in parts and as a whole. */

import { blobRefOf } from '../../shared/storage/blob-store.js';
import { initialMetaParameters } from '../../shared/models/initial-values.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { Clock } from '../../shared/base/clock.js';
import type { RunEvent, RunEventOf } from '../../shared/events/run-events.js';
import type { JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import {
  microBatchesOfWork,
  type Job,
  type JobResult,
  type RuleJob,
  type TaskJob,
} from '../../shared/queue/protocol.js';
import {
  EXTENDED_OUTER_STEPS,
  simulatedExecutor,
  simulatedRunOf,
  TASKS_PER_MICRO_BATCH,
} from './simulated-run.js';
import type { Variant } from './variants.js';

export interface Reference {
  /** The digests of meta-parameters, by completed outer steps, up to the longest run that an order may ask for. */
  readonly digestByStep: ReadonlyMap<number, string>;
  /** The losses that are told of outer steps, by the number of steps that were complete. */
  readonly lossesByStep: ReadonlyMap<number, string>;
  /** The decided part of each result, by `jobKeyOf`. */
  readonly resultByJob: ReadonlyMap<string, string>;
}

/** The part of a job that says what it computes. A simulated run has jobs on tasks alone. */
export type ComputedPart =
  Pick<TaskJob, 'outerStep' | 'taskIndices' | 'work'> | Pick<RuleJob, 'outerStep' | 'work'>;

/** Names a job by what it computes. */
export function jobKeyOf(job: ComputedPart): string {
  const tasks = 'taskIndices' in job ? job.taskIndices.join(',') : '';
  const range = microBatchesOfWork(job.work);
  return `${job.outerStep}:${tasks}${range === undefined ? '' : `:${range.first}-${range.end}`}`;
}

/** The part of a result that its job decides. */
export function decidedPartOf(
  outputSha256: string,
  losses: Pick<JobResult, 'weightedQueryLoss' | 'weightedQueryLossBefore' | 'lossesBySize'>,
): string {
  const { weightedQueryLoss, weightedQueryLossBefore, lossesBySize } = losses;
  return `${outputSha256} ${weightedQueryLoss} ${weightedQueryLossBefore} ${JSON.stringify(lossesBySize)}`;
}

/** All losses of an outer step, in one text. */
export function toldLossesOf(event: RunEventOf<'outer-step'>): string {
  const { queryLoss, queryLossBefore, supportLoss, bySize } = event;
  return JSON.stringify({ queryLoss, queryLossBefore, supportLoss, bySize });
}

/** Time stands still. */
export const standingClock: Clock = {
  epochMs: () => 0,
  monotonicMs: () => 0,
  sleep: () => Promise.resolve(),
};

export async function undisturbedRun(variant: Variant): Promise<Reference> {
  const digestByStep = new Map<number, string>();
  const lossesByStep = new Map<number, string>();
  const resultByJob = new Map<string, string>();
  const caller = {
    clock: standingClock,
    sink: (event: RunEvent) => {
      if (event.kind === 'outer-step') lossesByStep.set(event.outerStep, toldLossesOf(event));
    },
    signal: new AbortController().signal,
  };
  const note = (job: Job, computed: JobOutput): void => {
    const { sha256 } = blobRefOf(computed.output);
    resultByJob.set(jobKeyOf(job), decidedPartOf(sha256, computed));
  };
  const run = simulatedRunOf(variant);
  // An extension that is ordered before the first outer step has ended is kept by a checkpoint of none.
  const initial = initialMetaParameters(run.spec, run.config.seed);
  digestByStep.set(0, metaParametersDigest(initial));
  const training = {
    ...run.config.training,
    ...{ outerSteps: EXTENDED_OUTER_STEPS, checkpointEveryOuterSteps: 1 },
  };
  await train({
    run: { ...run, config: { ...run.config, training } },
    dispatcher: createInMemoryDispatcher({
      executors: [
        {
          ...simulatedExecutor,
          execute: async (input) => {
            const computed = await simulatedExecutor.execute(input);
            note(input.job, computed);
            if (variant.hasParts)
              for (const part of partsOfJob(input))
                note(part.job, await simulatedExecutor.execute(part));
            return computed;
          },
        },
      ],
      ...{ clock: standingClock, attemptsMax: 1, sink: caller.sink },
    }),
    checkpoints: {
      latest: () => Promise.resolve(null),
      write: (state) => {
        const written = metaParametersDigest(state.metaParameters);
        digestByStep.set(state.outerStep, written);
        return Promise.resolve({ address: '', digest: written });
      },
    },
    start: { resume: false },
    caller,
  });
  return { digestByStep, lossesByStep, resultByJob };
}

/** All parts that a job may be divided into. */
function partsOfJob(input: JobInput): JobInput[] {
  const { job } = input;
  if (!('taskIndices' in job) || job.work.kind !== 'gradient') return [];
  const { work } = job;
  const count = job.taskIndices.length / TASKS_PER_MICRO_BATCH;
  const leading = Array.from({ length: count - 1 }, (_, index) => ({ first: 0, end: index + 1 }));
  const others = leading.map(({ end }) => ({ first: end, end: end + 1 }));
  return [...leading, ...others].map(({ first, end }) => {
    const taskCount = (end - first) * TASKS_PER_MICRO_BATCH;
    return {
      ...input,
      job: { ...job, work: { ...work, microBatches: { first, end, count, taskCount } } },
    };
  });
}
