/** The ways of spreading W2 over processes that are compared. */

/** `ours` has local workers, as `train --workers` starts them, and `redis` workers that any machine could have. */
export const SYSTEMS = ['ours', 'redis', 'gloo', 'ray'] as const;
export type System = (typeof SYSTEMS)[number];

export function isOurs(system: System): boolean {
  return system === 'ours' || system === 'redis';
}

export interface Contestant {
  readonly name: string;
  readonly system: System;
  /** Zero where coordinator and computation share one core, without a queue. */
  readonly workerCount: number;
  /** Returns whether gradients are computed, or those of other steps are sent again. */
  readonly computes: boolean;
}

export const CONTESTANTS: readonly Contestant[] = [
  { name: 'ours, in process', system: 'ours', workerCount: 0, computes: true },
  ...[true, false].flatMap((computes) =>
    // Local workers compute with the project's own executor alone.
    SYSTEMS.filter((system) => computes || system !== 'ours').flatMap((system) =>
      [1, 2].map((workerCount) => ({
        name: `${system} ${workerCount}${computes ? '' : ', no compute'}`,
        ...{ system, workerCount, computes },
      })),
    ),
  ),
];
