/** Times a step repeatedly and reports the resources that the process used meanwhile. */

import { systemClock } from '../../../../shared/base/clock.js';
import { median } from '../../../../shared/base/arrays.js';
import type { Timed } from './side-protocol.js';

const REPEAT_COUNT_MIN = 3;

/** The first call is not counted. It refills caches that another process may have evicted. */
export function timeRepeatedly(durationMs: number, run: () => void): Omit<Timed, 'kind'> {
  run();
  const times: number[] = [];
  const cpuBefore = process.cpuUsage();
  const startMs = systemClock.monotonicMs();
  let endMs = startMs;
  while (times.length < REPEAT_COUNT_MIN || endMs - startMs < durationMs) {
    run();
    const nextMs = systemClock.monotonicMs();
    times.push(nextMs - endMs);
    endMs = nextMs;
  }
  const cpu = process.cpuUsage(cpuBefore);
  return {
    medianMs: median(times),
    minMs: Math.min(...times),
    stepCount: times.length,
    wallMs: endMs - startMs,
    cpuMs: (cpu.user + cpu.system) / 1000,
    residentMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}
