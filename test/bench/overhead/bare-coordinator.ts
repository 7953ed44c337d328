/**
 * The bytes of a load with no more commands than carry them: records in lists, taken and answered many at a time. What
 * is left to do is the work of client library, server and proxy, so no job queue on this machine does more jobs.
 */

import { systemClock } from '../../../shared/base/clock.js';
import { BARE_BATCH_COUNT, BARE_LISTS, bareBytes, recordsOf, takenNames } from './bare-bytes.js';
import { partOf, type MeasuredLoad, type MeasuredStep } from './overhead-cases.js';
import { processorWatch } from './processor-watch.js';

const part = partOf(process.argv[2]);
const { byteCount, jobsPerStep, stepCount, warmUpSteps } = part.load;
const bytes = await bareBytes(part);
const waiting = bytes.redis.duplicate();
const watch = processorWatch(part.pids);
const input = new Uint8Array(byteCount).fill(7);

async function send(outerStep: number): Promise<void> {
  for (let from = 0; from < jobsPerStep; from += BARE_BATCH_COUNT) {
    const count = Math.min(BARE_BATCH_COUNT, jobsPerStep - from);
    const names = Array.from({ length: count }, (_, place) => `${outerStep}-${from + place}`);
    const put = bytes.put(
      names.map((name) => `in-${name}`),
      input,
    );
    await Promise.all([put, bytes.redis.lpush(BARE_LISTS.jobs, ...recordsOf(names))]);
  }
}

/** Returns how many results were read. */
async function receive(): Promise<number> {
  const names = await takenNames(waiting, bytes.redis, BARE_LISTS.results);
  await bytes.get(names.map((name) => `out-${name}`));
  void bytes.drop(names.flatMap((name) => [`in-${name}`, `out-${name}`]));
  return names.length;
}

const steps: MeasuredStep[] = [];
for (let outerStep = 0; outerStep < warmUpSteps + stepCount; outerStep += 1) {
  const isMeasured = outerStep >= warmUpSteps;
  if (isMeasured) watch.begins();
  const startMs = systemClock.monotonicMs();
  const sent = send(outerStep);
  for (let count = 0; count < jobsPerStep;) count += await receive();
  await sent;
  if (!isMeasured) continue;
  watch.ends();
  const stepMs = systemClock.monotonicMs() - startMs;
  steps.push({ stepMs, longestJobMs: 0, jobsMs: 0, jobCount: jobsPerStep });
}
const measured: MeasuredLoad = { steps, processorMs: watch.processorMs };
console.log(JSON.stringify(measured));
for (const connection of [waiting, bytes.redis]) connection.disconnect();
