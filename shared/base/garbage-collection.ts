/**
 * How often this process collects garbage. A step makes and drops typed arrays of megabytes beside a
 * heap of 30 MB that hardly changes, and the engine would mark that heap anew after every ten such
 * megabytes: a fifth of a job's time, most of it in helper threads that take the other processes' core.
 */

import { setFlagsFromString } from 'node:v8';

/** Objects, by which the heap may have grown when it is marked again, in percent of what was alive. */
const HEAP_GROWTH_PERCENT = 400;

/**
 * For process entries, before they allocate. Arrays outside the heap are collected all the same once
 * there are 64 MB of new ones, so that a large heap does not hold gigabytes of them.
 */
export function collectGarbageRarely(): void {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`);
}
