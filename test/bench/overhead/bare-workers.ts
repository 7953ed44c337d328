/** A process that answers the records of `bare-coordinator.ts`: it reads the bytes of each, and puts as many. */

import { BARE_LISTS, bareBytes, recordsOf, takenNames } from './bare-bytes.js';
import { partOf } from './overhead-cases.js';

/** So many exchanges are under way at once, as those of many workers would be. */
const EXCHANGE_COUNT = 4;

const part = partOf(process.argv[2]);
const output = new Uint8Array(part.load.byteCount).fill(9);
const bytes = await bareBytes(part);
process.once('SIGTERM', () => process.exit());
console.log('ready');
await Promise.all(Array.from({ length: EXCHANGE_COUNT }, () => answer()));

async function answer(): Promise<never> {
  const waiting = bytes.redis.duplicate();
  for (;;) {
    const names = await takenNames(waiting, bytes.redis, BARE_LISTS.jobs);
    await bytes.get(names.map((name) => `in-${name}`));
    const put = bytes.put(
      names.map((name) => `out-${name}`),
      output,
    );
    await Promise.all([put, bytes.redis.lpush(BARE_LISTS.results, ...recordsOf(names))]);
  }
}
