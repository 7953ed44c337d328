/** The events about how a run is watched and scaled from outside. */

import { z } from 'zod';

/** The pools of workers. */
export const DEVICE_POOLS = ['cpu', 'gpu'] as const;
export type DevicePool = (typeof DEVICE_POOLS)[number];

export const OPERATION_SHAPES = {
  /**
   * How many workers of the pool could take part: one for each job of an outer step or of an evaluation. Told when it
   * changes. Jobs that any device may compute are for `cpu`. 0 in a pause and at the end.
   */
  'workers-wanted': { device: z.enum(DEVICE_POOLS), workerCount: z.int().nonnegative() },
  'metrics-served': { url: z.string() },
  /** Told once. Spans are dropped until the receiver takes them again. */
  'traces-failed': { address: z.string(), reason: z.string() },
};
