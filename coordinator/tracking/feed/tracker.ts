/** The contract of a tracker, and its failures. */

import type { StampedEvent } from '../../../shared/events/run-events.js';

/** The end of a call, as its events tell it. */
export type CallEnding = 'finished' | 'failed' | 'interrupted';

export interface Tracker<Item> {
  readonly name: string;
  /** For messages: without a secret. */
  readonly address: string;
  /** The least time between two takes, so that items come together. */
  readonly intervalMs: number;
  /**
   * Takes the items, or none of them: after a failure the same ones are given again.
   *
   * @throws TrackerRefusal if they will never be taken.
   */
  take(items: readonly Item[], signal: AbortSignal): Promise<void>;
  /** Called once, after the last items. */
  end(ending: CallEnding, signal: AbortSignal): Promise<void>;
}

export type EventTracker = Tracker<StampedEvent>;

/** The tracker understood and refused: trying again would change nothing. */
export class TrackerRefusal extends Error {
  override readonly name = 'TrackerRefusal';
}

/** The run that a call works on, for trackers that name it. */
export interface TrackedRun {
  /** The name of the call on the command line, as `train`. */
  readonly call: string;
  readonly run: string;
  readonly output: string;
}
