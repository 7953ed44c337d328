/**
 * The watch over what local workers cost beside computing. Jobs of small models are computed in less time than it takes
 * to carry them; one process then trains faster than several.
 */

import type { RunEventOf } from '../../../shared/events/run-events.js';

type TimedStep = Pick<RunEventOf<'outer-step-timed'>, 'phasesMs'>;

/** The outer steps that were watched, in milliseconds. */
interface OverheadFound {
  readonly workerCount: number;
  /** Time that they waited for results. */
  readonly waitedMs: number;
  /** Time that one process would need for the same jobs. */
  readonly computeMs: number;
}

/** Workers start and capture their graphs in the first outer steps. */
const STEPS_PASSED_OVER = 3;
const STEPS_MIN = 20;
/** Less is within what a shared machine varies by. */
const GAIN_MIN = 1.2;

export class OverheadWatch {
  readonly #workerCount: number;
  #stepCount = 0;
  #waitedMs = 0;
  #computeMs = 0;

  /** @param workerCount of local workers, which share the machine with this process. */
  constructor(workerCount: number) {
    this.#workerCount = workerCount;
  }

  note({ phasesMs }: TimedStep): void {
    this.#stepCount += 1;
    if (this.#stepCount <= STEPS_PASSED_OVER) return;
    const { fetch, compute, upload, queue } = phasesMs;
    // Without a wait on the queue, fetching and uploading were beside computing, and say nothing of the wait.
    this.#waitedMs += queue > 0 ? fetch + compute + upload + queue : compute;
    // Of each worker that returned any.
    this.#computeMs += compute * this.#workerCount;
  }

  /** Null unless one process would clearly have waited less. */
  found(): OverheadFound | null {
    const [waitedMs, computeMs] = [Math.round(this.#waitedMs), Math.round(this.#computeMs)];
    const isWatched = this.#stepCount >= STEPS_PASSED_OVER + STEPS_MIN;
    if (!isWatched || !(waitedMs > GAIN_MIN * computeMs)) return null;
    return { workerCount: this.#workerCount, waitedMs, computeMs };
  }
}
