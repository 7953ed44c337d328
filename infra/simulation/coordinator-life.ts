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
  failureCount: number;
}
