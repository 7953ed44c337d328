/**
 * What people ask of a run while it is trained, from any machine: to pause, to stop, to take more outer
 * steps. The orders of a run are one record beside its lease on the queue. The coordinator reads it whenever it
 * renews the lease, so that one that was fenced off heeds no orders. They outlive a coordinator that dies, but for one
 * whose giver sees that nobody has heard it; and they end with one that gives its lease back.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import type { LeaseHolder, RunEnd } from '../storage/lease.js';

const RunOrdersSchema = z.strictObject({
  /** No new jobs go out until it is false again. */
  isPaused: z.boolean(),
  /** The run stops and can be resumed. */
  isCancelled: z.boolean(),
  /** The number of outer steps that the run is extended to; null as long as it is not. */
  outerSteps: z.int().positive().nullable(),
  /** The signature of those who gave the orders, for a run of a pool with a key. */
  seal: z
    .strictObject({
      /** The start of the coordinator that the orders are addressed to. */
      start: z.string().min(1),
      signature: z.string(),
    })
    .optional(),
});
export type RunOrders = z.infer<typeof RunOrdersSchema>;

export const NO_ORDERS: RunOrders = { isPaused: false, isCancelled: false, outerSteps: null };

/** Equal orders are equal texts. */
export function encodeOrders(orders: RunOrders): string {
  return JSON.stringify(RunOrdersSchema.parse(orders));
}

/** @throws Error if the text is not that of orders. */
export function decodeOrders(text: string): RunOrders {
  return RunOrdersSchema.parse(JSON.parse(text));
}

/**
 * The orders are those of another version, or not signed as the run demands. Whoever gives orders fails; a coordinator
 * keeps those that it heard last.
 */
export class UnreadableOrdersError extends QianmoError {}

/** A run that a coordinator works on. */
export interface ControlledRun {
  readonly holder: LeaseHolder;
  readonly orders: RunOrders;
}

/** The end of a command that controls runs. Calls fail at once while the server is away. */
export interface RunController {
  /** Returns null if no coordinator holds the lease of the run. */
  find(runId: string): Promise<ControlledRun | null>;
  /** How a coordinator gave back the lease that it had; null if it has it, has died, or ended long ago. */
  endOf(runId: string, start: string): Promise<RunEnd | null>;
  /**
   * Replaces the orders of a run if they are still the earlier ones, and if a coordinator holds its lease.
   * Returns whether it did.
   */
  replace(runId: string, earlier: RunOrders, orders: RunOrders): Promise<boolean>;
  /**
   * Changes orders that no coordinator can heed any more. Returns false, with nothing done, if a coordinator holds the
   * lease.
   */
  withdraw(runId: string, change: (orders: RunOrders) => RunOrders): Promise<boolean>;
  close(): Promise<void>;
}
