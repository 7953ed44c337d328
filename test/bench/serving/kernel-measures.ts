/** Times of calls. */

import { median } from '../../../shared/base/arrays.js';

/** Microseconds of a request in one turn of a side. */
export interface SideTimes {
  readonly medianUs: number;
  readonly leastUs: number;
  /** Processor time, all threads; what other programs take is not in it. */
  readonly cpuUs: number;
}

export function timedCalls(callCount: number, call: (index: number) => void): SideTimes {
  // The turn of another side has filled the caches.
  call(callCount);
  const wallUs: number[] = [];
  const before = process.cpuUsage();
  for (let index = 0; index < callCount; index += 1) {
    const start = process.hrtime.bigint();
    call(index);
    wallUs.push(Number(process.hrtime.bigint() - start) / 1000);
  }
  const { user, system } = process.cpuUsage(before);
  return {
    medianUs: median(wallUs),
    leastUs: Math.min(...wallUs),
    cpuUs: (user + system) / callCount,
  };
}
