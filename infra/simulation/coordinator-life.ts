/** The life of one simulated coordinator, from the start of its process to the end. */

import type { SimulatedProcess } from './simulated-process.js';

/** The deeds of a coordinator, for the explanation of its end. */
export interface CoordinatorLife {
  readonly process: SimulatedProcess;
  readonly number: number;
  readonly startMs: number;
  endMs: number;
  epoch: number;
  hasBegun: boolean;
  /** When the server last failed to answer it or refused. */
  troubledMs: number;
  lastStoreKey: string;
  /** The epoch of its claim on the checkpoints; 0 before it has one. */
  claimEpoch: number;
  /** Failed deliveries of each job, as `outer step/job`. */
  readonly failureCountByJob: Map<string, number>;
  isCancelled: boolean;
  /** Whether it waits, as it was ordered to, before it sends the jobs of an outer step. */
  isPaused: boolean;
  /** The number of outer steps that it was ordered to do last; null if it was not. */
  extendedTo: number | null;
}
