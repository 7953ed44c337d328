/** Parts of BullMQ and ioredis that are no interface, and that the queue calls or replaces: they are as in the versions read. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as bullmq from 'bullmq';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { z } from 'zod';

const require = createRequire(import.meta.url);
const { Job, RedisQueueBackend } = require('bullmq') as typeof bullmq;
const FINISH = 'shared/queue/finishing/finish-script.ts';
const CONSUMER = 'shared/queue/bullmq-consumer.ts';

const { moveToFinished } = z
  .object({
    moveToFinished: z.object({ name: z.string(), keys: z.number(), content: z.string() }),
  })
  .parse(require('bullmq/dist/cjs/scripts/moveToFinished-14.js'));

it.each(['bullmq', 'ioredis'])('%s has one version, which is installed', (name) => {
  const manifest = z.looseObject({ dependencies: z.record(z.string(), z.string()) });
  const { dependencies } = manifest.parse(JSON.parse(readFileSync('package.json', 'utf8')));
  const installed = z
    .looseObject({ version: z.string() })
    .parse(JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')));
  expect(dependencies[name], 'package.json names one version, and no range').toBe(
    installed.version,
  );
});

/** The methods of BullMQ's backend whose arguments and answers the queue relies on. */
const METHODS = [
  ['moveToFinishedArgs', FINISH, 'c0d6d9c7df54de57'],
  ['moveToCompletedArgs', FINISH, '3d1d0935d9ede449'],
  ['moveToFailedArgs', FINISH, '1aaaa4cf3957a916'],
  ['moveToCompleted', CONSUMER, '0a61d59b25e5b61e'],
  ['moveToActive', CONSUMER, '5acf245b2d4ca094'],
  ['moveJobFromActiveToWait', CONSUMER, 'c9897e4c293e255a'],
  ['waitForJob', CONSUMER, 'ac7f4c9285ee5648'],
] as const;

function sourceIn(owner: object, name: string): string {
  return String(Object.getOwnPropertyDescriptor(owner, name)?.value);
}

const PARTS: readonly (readonly [part: string, user: string, digest: string, source: string])[] = [
  ['the script moveToFinished', FINISH, '8e744ec5d65dbe9e', moveToFinished.content],
  ['Job.fromJSON', CONSUMER, '9bd7a9dff51bb016', sourceIn(Job, 'fromJSON')],
  ...METHODS.map(([name, user, digest]) => {
    const source = sourceIn(RedisQueueBackend.prototype, name);
    return [`RedisQueueBackend.${name}`, user, digest, source] as const;
  }),
];

it.each(PARTS)('%s of BullMQ is as %s expects it', (part, user, digest, source) => {
  const cure = `${part} has changed: compare it with ${user}, correct that, and record its digest here`;
  expect(createHash('sha256').update(source).digest('hex').slice(0, 16), cure).toBe(digest);
});

it(`the script has the keys, and ioredis keeps scripts, as ${FINISH} expects`, () => {
  expect(moveToFinished).toMatchObject({ name: 'moveToFinished', keys: 14 });
  const redis = new Redis({ lazyConnect: true });
  redis.defineCommand('moveToFinished:6.7.0', { numberOfKeys: 14, lua: 'return 1' });
  expect(redis).toMatchObject({ scriptsSet: { 'moveToFinished:6.7.0': { lua: 'return 1' } } });
  redis.disconnect();
});
