/** The undisturbed run: what every disturbed one must come to, in parts and as a whole. */

import { blobRefOf } from '../../shared/storage/blob-store.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters.js';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { ValidatedStep } from '../../coordinator/checkpoints/checkpoint-manifest.js';
import type { Clock } from '../../shared/base/clock.js';
import type { RunEvent, RunEventOf } from '../../shared/events/run-events.js';
import type { CarriedJob } from '../../shared/queue/protocol.js';
import {
  simulatedExecutorOf,
  simulatedLossOf,
  simulatedRunOf,
  type Variant,
} from './simulated-run.js';

export interface Reference {
  /** The digests of meta-parameters, by completed outer steps. */
  readonly digestByStep: ReadonlyMap<number, string>;
  /** The validation losses up to the end of the run; none where training does not stop early. */
  readonly validated: readonly ValidatedStep[];
  /** The losses that are told of outer steps, by the number of steps that were complete. */
  readonly lossesByStep: ReadonlyMap<number, string>;
  /** The digest of the output of each delivery that may travel, by `jobKeyOf`. */
  readonly resultByJob: ReadonlyMap<string, string>;
}

/** The part of a job that says what it computes. */
export type ComputedPart = Pick<CarriedJob, 'outerStep' | 'taskIndices' | 'work' | 'keepsSums'>;

/** Names a job by what it computes. */
export function jobKeyOf(job: ComputedPart): string {
  return `${job.outerStep}:${job.taskIndices.join(',')}${job.keepsSums === true ? ', kept' : ''}`;
}

/** All losses of an outer step, in one text. */
export function toldLossesOf(event: RunEventOf<'outer-step'>): string {
  const { queryLoss, queryLossBefore, supportLoss, bySize } = event;
  return JSON.stringify({ queryLoss, queryLossBefore, supportLoss, bySize });
}

/** Time stands still. */
const standingClock: Clock = {
  epochMs: () => 0,
  monotonicMs: () => 0,
  sleep: () => Promise.resolve(),
};

/** Computing times of a leaf that cut outer steps into deliveries of every size. */
const LEAF_TIMES_MS = [0, 60, 120, 200, 400, 700];

/** @throws Error if two cuts lead to different bits */
export async function undisturbedRun(variant: Variant): Promise<Reference> {
  const [first, ...others] = await Promise.all(
    LEAF_TIMES_MS.map((perLeafMs) => runWith(variant, perLeafMs)),
  );
  if (first === undefined) throw new Error('a reference needs a cut');
  const digests = JSON.stringify([...first.digestByStep]);
  if (others.some(({ digestByStep }) => JSON.stringify([...digestByStep]) !== digests))
    throw new Error('the undisturbed run depends on how outer steps are cut');
  const resultByJob = new Map([first, ...others].flatMap((run) => [...run.resultByJob]));
  return { ...first, resultByJob };
}

async function runWith(variant: Variant, perLeafMs: number): Promise<Reference> {
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
  const run = simulatedRunOf(variant);
  const executor = simulatedExecutorOf(variant);
  const training = { ...run.config.training, checkpointEveryOuterSteps: 1 };
  const dispatcher = createInMemoryDispatcher({
    executors: [
      {
        ...executor,
        execute: async (input) => {
          const computed = await executor.execute(input);
          resultByJob.set(jobKeyOf(input.job), blobRefOf(computed.output).sha256);
          const keeping = { ...input, job: { ...input.job, keepsSums: true as const } };
          const { output: kept } = await executor.execute(keeping);
          resultByJob.set(jobKeyOf(keeping.job), blobRefOf(kept).sha256);
          const { work } = input.job;
          const leafCount = work.kind === 'gradient' ? work.leaves.shapes.length : 1;
          return { ...computed, computeMs: perLeafMs * leafCount };
        },
      },
    ],
    ...{ clock: standingClock, attemptsMax: 1, sink: caller.sink },
  });
  const { state } = await train({
    run: { ...run, config: { ...run.config, training } },
    dispatcher,
    checkpoints: {
      latest: () => Promise.resolve(null),
      write: (state) => {
        const written = metaParametersDigest(state.metaParameters);
        digestByStep.set(state.outerStep, written);
        return Promise.resolve({ address: '', digest: written });
      },
    },
    start: { resume: false },
    ...(variant.stopsEarly ? { validationLoss: simulatedLossOf } : {}),
    caller,
  });
  return { digestByStep, validated: state.validated ?? [], lossesByStep, resultByJob };
}
