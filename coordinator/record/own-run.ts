/**
 * Tells the training of a run from that of an arm that is trained for it, as the global arm of an evaluation is. The log
 * of a call has both, and an arm's events name another run than the call does.
 */

import type { EventKind, StampedEvent } from '../../shared/events/run-events.js';

/** Events whose numbers are those of one training. */
const OF_TRAINING: ReadonlySet<EventKind> = new Set([
  ...['run-started', 'outer-step', 'outer-step-timed', 'checkpoint', 'run-finished'],
  ...['run-validated'],
] as const);

export class OwnRun {
  #run: string | null;

  /** @param run of the call that had begun before the first event; null if nobody knows. */
  constructor(run: string | null = null) {
    this.#run = run;
  }

  /** Whether the event belongs to the training of an arm. Events come in their order, from any one on. */
  isTrainingOfArm(event: StampedEvent): boolean {
    if (event.kind === 'call-alive') this.#run = event.runId ?? null;
    if (this.#run === null || event.runId === undefined) return false;
    return event.runId !== this.#run && OF_TRAINING.has(event.kind);
  }
}
