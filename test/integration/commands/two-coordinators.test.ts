/** Two coordinators of one run, as real processes: the second stops at once, and a suspended one is fenced. */

import { beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import {
  commandRoom,
  expectFailure,
  type ExpectedFailure,
} from '../../fixtures/commands/command-room.js';
import { type RunningCommand, digestIn } from '../../fixtures/commands/command.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

const room = openedOnce(commandRoom);
beforeAll(async () => {
  await room.done(['prepare', await room.config('any')]);
});

interface Scene {
  readonly redis: RedisForTest;
  /** Starts a command that ends with the test. */
  readonly started: (...args: string[]) => RunningCommand;
}

/** A test with a Redis of its own. They run side by side, because most of their time is waiting. */
function scene(name: string, play: (scene: Scene) => Promise<void>): void {
  it.concurrent(name, async () => {
    const redis = await redisForTest();
    const running: RunningCommand[] = [];
    const started = (...args: string[]): RunningCommand => {
      const command = room.start(args);
      running.push(command);
      return command;
    };
    try {
      await play({ redis, started });
    } finally {
      for (const command of running) {
        command.signal('SIGKILL');
        await command.ended;
      }
      await redis.close();
    }
  });
}

async function configOf(name: string, outerSteps: number): Promise<string> {
  return room.config(name, ({ training }) => void Object.assign(training, { outerSteps }));
}

async function undisturbedDigest(outerSteps: number): Promise<unknown> {
  const config = await configOf(`undisturbed-${outerSteps}`, outerSteps);
  return digestIn(await room.ended(['train', config, '--format', 'json']));
}

const busy = (run: string, where: RegExp): ExpectedFailure => ({
  exitCode: 6,
  what: new RegExp(
    `^another coordinator works on run ${run}: process \\d+ on \\S+, since 20\\d\\d-`,
  ),
  where,
  expected: /^one coordinator at a time$/,
  cure: /wait until it has finished, stop it, or give this run another name and output/,
});

scene(
  'a second one on the same Redis stops at once and harms nothing',
  async ({ redis, started }) => {
    const config = await configOf('queued', 4);
    const train = ['train', config, '--redis', redis.url, '--format', 'json'];
    const first = started(...train);
    await first.saw(/^run queued/m);
    const isAdded = async (): Promise<boolean> =>
      (await redis.client.llen('{queued}:inner-loops:wait')) > 0;
    while (!(await isAdded())) await systemClock.sleep(20);
    const jobs = await redis.client.lrange('{queued}:inner-loops:wait', 0, -1);
    expectFailure(await started(...train).ended, busy('queued', /^redis:/));
    // The first one may have been adding the others of its step.
    const kept = await redis.client.lrange('{queued}:inner-loops:wait', 0, -1);
    expect(kept).toEqual(expect.arrayContaining(jobs));
    started('worker', '--redis', redis.url, '--prefix', '{queued}');
    expect(digestIn(await first.ended)).toBe(await undisturbedDigest(4));
  },
);

scene('a second one without a queue stops at once', async ({ started }) => {
  const config = await configOf('in-process', 100_000);
  const first = started('train', config);
  await first.saw(/checkpoint of outer step/);
  const resume = ['train', config, '--resume'];
  expectFailure(await started(...resume).ended, busy('in-process', /coordinator\.json$/));
  first.signal('SIGINT');
  expect((await first.ended).exitCode).toBe(4);
  const third = started(...resume);
  await third.saw(/checkpoint of outer step/);
});

scene(
  'one that wakes after it was replaced stops, and the other ends as if undisturbed',
  async ({ redis, started }) => {
    // The one that stands still may hold a lock of the store, which is broken after a minute.
    const outerSteps = 100;
    const config = await configOf('replaced', outerSteps);
    const train = ['train', config, '--redis', redis.url, '--workers', '1', '--format', 'json'];
    const first = started(...train);
    await first.saw(/checkpoint of outer step 8:/);
    first.signal('SIGSTOP');
    const [lease] = await redis.client.keys('*:lease:replaced:holder');
    while ((await redis.client.exists(lease ?? '')) > 0) await systemClock.sleep(100);
    const second = started(...train, '--resume');
    await second.saw(/has not given the run back .* waiting up to 20/);
    await second.saw(/checkpoint of outer step/);
    first.signal('SIGCONT');
    expectFailure(await first.ended, {
      exitCode: 6,
      what: /^another coordinator has taken over this run$/,
      cure: /this one has stopped and changed nothing of it/,
    });
    expect(digestIn(await second.ended)).toBe(await undisturbedDigest(outerSteps));
  },
);
