/**
 * The threads with which the engine compiles and collects beside the one that runs the program. On a core of their own they
 * take turns with it as its equals, several of them at a time: a request that comes while functions are compiled waits
 * for all of them.
 */

import { readdirSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';

/** One that keeps time and four that work, which the runtime starts right after the main thread. */
const ENGINE_THREAD_COUNT = 5;
/** A tenth of the time that a thread of normal priority has where both want the core. */
const STEP = constants.priority.PRIORITY_BELOW_NORMAL;
const LOWEST = constants.priority.PRIORITY_LOW;

/**
 * Lowers their priority for as long as the process lives; on other systems than Linux nothing is changed. Called by the entry of
 * a process that answers requests.
 */
export function letEngineGiveWay(): void {
  if (process.platform !== 'linux') return;
  const priority = Math.min(LOWEST, getPriority(process.pid) + STEP);
  for (const thread of engineThreads())
    try {
      setPriority(thread, priority);
    } catch {
      // A system that refuses leaves all as it was.
      return;
    }
}

/** Threads have growing numbers in the order of their starts. */
function engineThreads(): readonly number[] {
  const threads = readdirSync('/proc/self/task').map(Number);
  const others = threads.filter((thread) => thread !== process.pid);
  return others.sort((first, second) => first - second).slice(0, ENGINE_THREAD_COUNT);
}
