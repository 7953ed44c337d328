/** The undisturbed run: what every disturbed one must come to, in parts and as a whole. */

import { blobRefOf } from '../../shared/storage/blob-store.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { Clock } from '../../shared/base/clock.js';
import type { RuleJob, TaskJob } from '../../shared/queue/protocol.js';
import { simulatedExecutor, simulatedRun } from './simulated-run.js';

export interface Reference {
  readonly digest: string;
  /** The digests of meta-parameters, by completed outer steps. */
  readonly digestByStep: ReadonlyMap<number, string>;
  /** The SHA-256 of the output of each job, by `jobKeyOf`. */
  readonly outputByJob: ReadonlyMap<string, string>;
}

/** The part of a job that says what it computes. A simulated run has jobs on tasks alone. */
export type ComputedPart =
  Pick<TaskJob, 'outerStep' | 'taskIndices'> | Pick<RuleJob, 'outerStep' | 'work'>;

/** Names a job by what it computes. */
export function jobKeyOf(job: ComputedPart): string {
  const tasks = 'taskIndices' in job ? job.taskIndices.join(',') : '';
  return `${job.outerStep}:${tasks}`;
}

const standingClock: Clock = {
  epochMs: () => 0,
  monotonicMs: () => 0,
  sleep: () => Promise.resolve(),
};

export async function undisturbedRun(): Promise<Reference> {
  const digestByStep = new Map<number, string>();
  const outputByJob = new Map<string, string>();
  const caller = {
    clock: standingClock,
    sink: () => undefined,
    signal: new AbortController().signal,
  };
  const { config } = simulatedRun;
  const training = { ...config.training, checkpointEveryOuterSteps: 1 };
  const { digest } = await train({
    run: { ...simulatedRun, config: { ...config, training } },
    dispatcher: createInMemoryDispatcher({
      executor: {
        ...simulatedExecutor,
        execute: async (input) => {
          const computed = await simulatedExecutor.execute(input);
          outputByJob.set(jobKeyOf(input.job), blobRefOf(computed.output).sha256);
          return computed;
        },
      },
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
  return { digest, digestByStep, outputByJob };
}
