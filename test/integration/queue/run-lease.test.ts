/** The lease of a run on a real Redis: jobs are added under its epoch. */

import { describe, expect, it } from 'vitest';
import { redisRunController, RedisRunLease } from '../../../shared/queue/redis-run-lease.js';
import { RunFencedError } from '../../../shared/storage/lease.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { expectFailureOf } from '../../fixtures/failures.js';
import { holderOf } from '../../conformance/job-queue-leases.js';

const room = new QueueRoom('run-lease');

async function scene() {
  const leaseOf = (): RedisRunLease => new RedisRunLease(room.redis.client, room.prefix, 'redis');
  const [first, second] = [leaseOf(), leaseOf()];
  await first.take('run', holderOf('first'), null);
  const key = `${room.prefix}:added`;
  const { client } = room.redis;
  const add = (): Promise<unknown> => client.set(key, 'yes');
  const undo = (): Promise<unknown> => client.del(key);
  return { first, second, add, undo, isAdded: () => client.exists(key) };
}

async function stolen(by: RedisRunLease): Promise<void> {
  for (const key of await room.redis.client.keys('*:holder')) await room.redis.client.del(key);
  await by.take('run', holderOf('second'), null);
}

describe('adding under a lease', () => {
  it('leaves nothing added when the lease is lost between the check and the addition', async () => {
    const { first, second, add, undo, isAdded } = await scene();
    const stealAndAdd = async (): Promise<unknown> => {
      await stolen(second);
      return add();
    };
    await expect(first.addUnder(stealAndAdd, undo)).rejects.toThrow(RunFencedError);
    expect(await isAdded()).toBe(0);
  });

  it('goes on after Redis has lost its memory, unless somebody else was faster', async () => {
    const { first, second, add, undo, isAdded } = await scene();
    await room.redis.client.flushall();
    await first.addUnder(add, undo);
    expect(await isAdded()).toBe(1);
    await first.renew(holderOf('first'));
    await room.redis.client.flushall();
    const answer = await second.take('run', holderOf('second'), null);
    expect(answer.kind).toBe('taken');
    await expect(first.addUnder(add, undo)).rejects.toThrow(RunFencedError);
    await expect(first.renew(holderOf('first'))).rejects.toThrow(RunFencedError);
  });

  it('goes on after a failover to a replica with an earlier epoch', async () => {
    const { first, second, add, undo, isAdded } = await scene();
    const [epochKey = ''] = await room.redis.client.keys('*:epoch');
    const earlier = (await room.redis.client.get(epochKey)) ?? '';
    await stolen(second);
    await room.redis.client.set(epochKey, earlier);
    await second.addUnder(add, undo);
    expect(await isAdded()).toBe(1);
    await second.renew(holderOf('second'));
    await expect(first.renew(holderOf('first'))).rejects.toThrow(RunFencedError);
    await second.renew(holderOf('second'));
  });
});

describe('a record that another version wrote', () => {
  async function withRecord(part: 'holder' | 'cancel', text: string) {
    const { first, second } = await scene();
    const [key = ''] = await room.redis.client.keys('*:holder');
    await room.redis.client.set(key.replace(/holder$/, part), text);
    const controller = redisRunController(room.redis.client, room.prefix, 'redis');
    return { first, second, controller };
  }

  it('of the holder is said with what is strange', async () => {
    const text = JSON.stringify({ ...holderOf('later'), mood: 'good' });
    const { second, controller } = await withRecord('holder', text);
    for (const read of [
      () => second.take('run', holderOf('second'), null),
      () => controller.find('run'),
    ])
      await expectFailureOf(read(), 'environment', {
        what: 'the record of the coordinator of run run cannot be read',
        where: 'redis',
        found: /Unrecognized key: "mood"/,
      });
  });

  it('of the holder may be no JSON at all', async () => {
    const { controller } = await withRecord('holder', 'version 2');
    await expectFailureOf(controller.find('run'), 'environment', {
      found: 'text that is not JSON',
    });
  });

  it('of a cancellation is ignored, and the lease is kept', async () => {
    const { first } = await withRecord('cancel', '{"start":"first","mood":"bad"}');
    expect(await first.renew(holderOf('first', 1))).toBeNull();
    const [key = ''] = await room.redis.client.keys('*:holder');
    expect(await room.redis.client.get(key)).toBe(JSON.stringify(holderOf('first', 1)));
  });
});
