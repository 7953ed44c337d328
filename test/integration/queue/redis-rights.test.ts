/** The rights that a Redis user of coordinators and workers needs: those of the recipe in the documentation. */

import { readFile } from 'node:fs/promises';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import { executorForTest, resultsOf } from '../../conformance/dispatcher.js';
import { openedOnce } from '../../fixtures/opened.js';
import {
  dispatcherInTest,
  queueConfig,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const PREFIX = '{qianmo}';
const PAGE = new URL('../../../infra/docs/machines.md', import.meta.url);

const redis = openedOnce(redisForTest);
let recipe: string[];
beforeAll(async () => {
  const page = await readFile(PAGE, 'utf8');
  const line = /^redis-cli ACL SETUSER ([^\\\n]*(?:\\\n[^\\\n]*)*)$/m.exec(page)?.[1] ?? '';
  recipe = line
    .replace(/\\\n/g, ' ')
    .replace(/'/g, '')
    .split(/\s+/)
    .filter((rule) => rule !== '');
});
beforeEach(async () => {
  await redis.client.flushall();
  await redis.client.call('ACL', 'LOG', 'RESET');
});

/** The queue as a user sees it who has the rights of the recipe, without some and with others. */
async function queueFor(change: { without?: string; with?: string } = {}) {
  const rules = recipe.filter((rule) => rule !== change.without);
  if (change.with !== undefined) rules.push(change.with);
  await redis.client.call('ACL', 'DELUSER', 'qianmo');
  await redis.client.call('ACL', 'SETUSER', ...rules);
  const redisUrl = `redis://qianmo:PASSWORD@127.0.0.1:${redis.server.port}`;
  return bullmqJobQueue({ redisUrl, prefix: PREFIX, clock: systemClock });
}

/** The commands that Redis refused to users, as it remembers them: `command info`. */
async function refusals(): Promise<string[]> {
  const entries = (await redis.client.call('ACL', 'LOG')) as (string | number)[][];
  return entries.map((entry) => `${String(entry[3])} ${String(entry[7])}`).sort();
}

it.each([
  ['the recipe', {}, ['command client|setinfo', 'command info']],
  ['the recipe and INFO', { with: '+info' }, ['command client|setinfo']],
])('%s is enough for a run and a worker', async (_, change, refused) => {
  const queue = await queueFor(change);
  const executor = executorForTest((input: Parameters<typeof raisedOutput>[0]) =>
    Promise.resolve(raisedOutput(input, 'test')),
  );
  const worker = workerInTest(queue, executor);
  const made = await dispatcherInTest(queue, queueConfig({ prefix: PREFIX }));
  const { dispatcher } = made;
  try {
    expect(await resultsOf(dispatcher, 20)).toHaveLength(20);
    expect(made.events.map(({ kind }) => kind)).toEqual(['workers-wanted', 'fingerprint-taken']);
    // The connections are made again with the same rights.
    await redis.client.call('CLIENT', 'KILL', 'USER', 'qianmo');
    expect(await resultsOf(dispatcher, 3)).toHaveLength(3);
  } finally {
    await dispatcher.close();
    await worker.stop();
  }
  expect([...new Set(await refusals())]).toEqual(refused);
});

it.each([
  ...['+client|setname', '+@scripting', '+@write', '~{qianmo}:*', '+ping', '+time'],
  ...['+subscribe', '&{qianmo}:*'],
])('without %s there is one clear error', async (without) => {
  const queue = await queueFor({ without });
  const opening = dispatcherInTest(queue, queueConfig({ prefix: PREFIX }));
  await expectFailureOf(opening, 'environment', {
    where: `redis://qianmo:***@127.0.0.1:${redis.server.port}`,
    found: /NOPERM|ACL failure|permissions?/,
    cure: /A Redis user with few rights/,
  });
});
