/**
 * Reduces how often this process collects garbage. A step allocates and drops typed arrays of megabytes
 * beside a heap of 30 MB that hardly changes. By default the engine would mark that heap after every ten
 * such megabytes. This takes a fifth of a job's time, most of it in helper threads that use the cores of
 * other processes.
 */

import { setFlagsFromString } from 'node:v8';

/** Growth of the heap before it is marked again, in percent of the live objects. */
const HEAP_GROWTH_PERCENT = 400;

/**
 * Called by the entry of a process, before it allocates. Arrays outside the heap are still collected once
 * there are 64 MB of new ones, so that a large heap does not hold gigabytes of them.
 */
export function collectGarbageRarely(): void {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`);
}
