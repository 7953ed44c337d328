/** The lease of a run on a real Redis: jobs are added under its epoch. */

import { describe, expect, it } from 'vitest';
import { RedisRunLease } from '../../../shared/queue/redis-run-lease.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { RunFencedError, type LeaseHolder } from '../../../shared/storage/run-lease.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';

const room = new QueueRoom('run-lease');

function holderOf(start: string): LeaseHolder {
  return { start, process: thisProcess(), sinceMs: 0, beatMs: 0 };
}

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
