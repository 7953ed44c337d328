/**
 * Holds the record of a run whose outer steps close early against what its coordinators admitted, and against replays.
 * Nothing else says what such a run must come to, because its results depend on timing.
 */

import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { LeftOut } from '../../coordinator/checkpoints/left-out-leaves.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import { type ComputedPart, jobKeyOf, standingClock } from './reference.js';
import { EXTENDED_OUTER_STEPS, simulatedExecutorOf, simulatedRunOf } from './simulated-run.js';
import type { Variant } from './variants.js';

/** A checkpoint, or the end of the run. */
interface RecordedState {
  readonly outerStep: number;
  readonly digest: string;
  readonly leftOut: readonly LeftOut[];
}

interface Replay {
  readonly digest: string;
  /** The digest of each output, by what its job computes. */
  readonly resultByJob: ReadonlyMap<string, string>;
}

export class EarlyClosings {
  /** The leaves that each call of a coordinator admitted, by outer step: a step may be taken several times. */
  readonly #admittedByStep = new Map<number, Set<number>[]>();
  /** The digests of all outputs that were admitted, by what their jobs compute. */
  readonly #parts = new Map<string, Set<string>>();
  readonly #recorded = new Map<string, RecordedState>();

  /** Returns where the leaves that a call admits are noted. */
  begin(outerStep: number): Set<number> {
    const leaves = new Set<number>();
    this.#admittedByStep.set(outerStep, [...(this.#admittedByStep.get(outerStep) ?? []), leaves]);
    return leaves;
  }

  admitted(job: ComputedPart, { output }: JobResult): void {
    const key = jobKeyOf(job);
    const parts = this.#parts.get(key) ?? new Set();
    this.#parts.set(key, parts.add(output.sha256));
  }

  recorded(state: RecordedState): void {
    this.#recorded.set(JSON.stringify(state), state);
  }

  /** The first record that does not say what was admitted, or does not lead to the same bits; null if there is none. */
  async misfit(variant: Variant): Promise<string | null> {
    for (const state of this.#recorded.values()) {
      const found =
        this.#unlikeAdmitted(state, variant) ?? (await this.#unlikeReplay(state, variant));
      if (found !== null) return `after outer step ${state.outerStep}: ${found}`;
    }
    return null;
  }

  #unlikeAdmitted(
    { outerStep: end, leftOut }: RecordedState,
    { leavesPerStep }: Variant,
  ): string | null {
    for (let outerStep = 0; outerStep < end; outerStep += 1) {
      const left = leftOut.find((step) => step.outerStep === outerStep)?.leaves ?? [];
      const isAsRecorded = (admitted: ReadonlySet<number>): boolean =>
        admitted.size === leavesPerStep - left.length && !left.some((leaf) => admitted.has(leaf));
      const calls = this.#admittedByStep.get(outerStep) ?? [];
      if (!calls.some(isAsRecorded))
        return `nobody left out leaves ${left.join(', ') || 'none'} of outer step ${outerStep}`;
    }
    return null;
  }

  async #unlikeReplay(
    { outerStep, digest, leftOut }: RecordedState,
    variant: Variant,
  ): Promise<string | null> {
    const { digest: again, resultByJob } = await replayed(leftOut, outerStep, variant);
    if (again !== digest) return 'a replay has another digest';
    for (const [key, part] of resultByJob)
      if (this.#parts.get(key)?.has(part) === false) return `a replay has another result of ${key}`;
    return null;
  }
}

async function replayed(
  leftOut: readonly LeftOut[],
  outerSteps: number,
  variant: Variant,
): Promise<Replay> {
  const resultByJob = new Map<string, string>();
  const run = simulatedRunOf(variant);
  const executor = simulatedExecutorOf(variant);
  const sink = (): void => undefined;
  const { state } = await train({
    run,
    dispatcher: createInMemoryDispatcher({
      executors: [
        {
          ...executor,
          execute: async (input) => {
            const computed = await executor.execute(input);
            resultByJob.set(jobKeyOf(input.job), blobRefOf(computed.output).sha256);
            return computed;
          },
        },
      ],
      ...{ clock: standingClock, attemptsMax: 1, sink },
    }),
    checkpoints: {
      latest: () => Promise.resolve(null),
      write: () => Promise.resolve({ address: '', digest: '' }),
    },
    start: {
      resume: false,
      replay: { outerSteps, leftOut, extendedOuterSteps: EXTENDED_OUTER_STEPS },
    },
    caller: { clock: standingClock, sink, signal: new AbortController().signal },
  });
  return { digest: metaParametersDigest(state.metaParameters), resultByJob };
}
