/** Other load on the machine during a measurement, from the kernel's counters. */

import { readFileSync } from 'node:fs';
import { systemClock } from '../../../shared/base/clock.js';

const TICKS_PER_SECOND = 100;

/** Seconds of processor time since boot: of all processes, and stolen by the host. */
function busySeconds(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0, steal = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softIrq + steal) / TICKS_PER_SECOND;
}

function processSeconds(pid: number): number {
  try {
    // Fields 14 and 15, user and system time, counted after the name in brackets.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [user, system] = /.*\) \S (?:\S+ ){10}(\d+) (\d+)/s.exec(text)?.slice(1) ?? [];
    return (Number(user ?? 0) + Number(system ?? 0)) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** How many cores, on average, were used by other processes than this one and `pids`. */
export async function othersLoadDuring<Result>(
  pids: readonly number[],
  work: () => Promise<Result>,
): Promise<{ readonly result: Result; readonly otherCores: number }> {
  const own = (): number =>
    [...pids, process.pid].reduce((sum, pid) => sum + processSeconds(pid), 0);
  const before = busySeconds() - own();
  const startMs = systemClock.monotonicMs();
  const result = await work();
  const seconds = (systemClock.monotonicMs() - startMs) / 1000;
  const others = busySeconds() - own() - before;
  return { result, otherCores: Math.max(0, others) / seconds };
}

const LOOK_MS = 250;

/** Waits until other processes leave the machine idle, or until `waitMsMax` has passed. */
export async function waitForQuiet(otherCoresMax: number, waitMsMax: number): Promise<void> {
  const endMs = systemClock.monotonicMs() + waitMsMax;
  for (;;) {
    const { otherCores } = await othersLoadDuring([], () => systemClock.sleep(LOOK_MS));
    if (otherCores <= otherCoresMax || systemClock.monotonicMs() > endMs) return;
  }
}
