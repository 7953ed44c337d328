/** Finds and removes the jobs that coordinators left on the BullMQ queue. */

import type { JobType, Queue } from 'bullmq';
import { isLeftover, isOfStart } from './protocol.js';
import type { StartRegistry } from './redis-registry.js';
import { FINISHED_AGE_MS_MAX, START_SILENCE_MS_MAX } from './timing.js';

const PAGE_COUNT = 1_000;
const WAITING: JobType[] = ['wait', 'delayed', 'prioritized'];
const FINISHED: JobType[] = ['completed', 'failed'];

/** Removes the waiting jobs of a run that have an earlier epoch, or none, and returns their number. */
export async function removeWaitingOfRun(
  queue: Queue,
  runId: string,
  epoch: number,
): Promise<number> {
  const ids: string[] = [];
  for (let start = 0; ; start += PAGE_COUNT) {
    const page = await queue.getJobs(WAITING, start, start + PAGE_COUNT - 1);
    for (const job of page)
      if (isLeftover(job.data, runId, epoch) && job.id !== undefined) ids.push(job.id);
    if (page.length === 0) break;
  }
  return removed(queue, ids);
}

/**
 * Removes the waiting jobs of silent starts, and later their finished jobs. A coordinator that was only
 * paused finds its jobs gone and delivers them again.
 *
 * @returns the number of waiting jobs
 */
export async function removeJobsOfSilentStarts(
  queue: Queue,
  registry: StartRegistry,
): Promise<number> {
  const silent = await registry.silent(START_SILENCE_MS_MAX);
  if (silent.length === 0) return 0;
  const waitingCount = await removed(queue, await idsOf(queue, WAITING, silent));
  const dead = await registry.silent(FINISHED_AGE_MS_MAX);
  if (dead.length > 0) {
    await removed(queue, await idsOf(queue, FINISHED, dead));
    for (const start of dead) await registry.forget(start);
  }
  return waitingCount;
}

async function idsOf(queue: Queue, types: JobType[], starts: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (let first = 0; ; first += PAGE_COUNT) {
    const page = await queue.getRanges(types, first, first + PAGE_COUNT - 1);
    ids.push(...page.filter((jobId) => starts.some((start) => isOfStart(jobId, start))));
    if (page.length === 0) return ids;
  }
}

/** A job that a worker holds is not removed. */
async function removed(queue: Queue, ids: readonly string[]): Promise<number> {
  await Promise.allSettled(ids.map((id) => queue.remove(id)));
  return ids.length;
}
