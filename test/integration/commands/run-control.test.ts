/** `pause`, `resume`, `cancel` and `extend` as commands, on a run that other processes compute. */

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import {
  commandRoom,
  expectFailure,
  type CommandRoom,
} from '../../fixtures/commands/command-room.js';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

const WAIT_MS_MAX = 120_000;

let room: CommandRoom;
let redis: RedisForTest;
let running: RunningCommand[] = [];
beforeAll(async () => {
  [room, redis] = await Promise.all([commandRoom(), redisForTest()]);
  await room.done(['prepare', await room.config('any')]);
});
afterAll(async () => {
  await redis.close();
  await room.remove();
});
afterEach(async () => {
  for (const command of running) {
    command.signal('SIGKILL');
    await command.ended;
  }
  running = [];
});

function started(...args: string[]): RunningCommand {
  const command = room.start(args);
  running.push(command);
  return command;
}

async function configOf(name: string, outerSteps: number): Promise<string> {
  return room.config(name, ({ training }) => void Object.assign(training, { outerSteps }));
}

async function ordered(...args: string[]): Promise<unknown> {
  const queue = ['--redis', redis.url, '--prefix', '{steered}', '--format', 'json'];
  return JSON.parse(await room.done([...args, ...queue]));
}

it(
  'a run is paused, resumed and cancelled while it is trained',
  async () => {
    const config = await configOf('steered', 1_000_000);
    const train = ['train', config, '--redis', redis.url, '--workers', '1', '--format', 'json'];
    const first = started(...train);
    await first.saw(/checkpoint of outer step 4:/);
    expect(await ordered('pause', 'steered')).toMatchObject({
      ...{ run: 'steered', outerSteps: 1_000_000 },
      state: expect.stringMatching(/^paus(ing|ed)$/) as string,
      coordinator: { pid: first.pid },
    });
    await first.saw(/^paused: no job goes out until `qianmo resume`$/m);
    expect(await ordered('resume', 'steered')).toMatchObject({ state: 'running' });
    await first.saw(/^resumed after /m);
    expect(await ordered('cancel', 'steered')).toMatchObject({
      state: expect.stringMatching(/^(stopping|ended)$/) as string,
    });
    expectFailure(await first.ended, {
      exitCode: 5,
      what: /^the run was cancelled; outer step \d+ of 1000000 is safe$/,
      cure: /qianmo train run\.yaml --resume/,
    });
    await room.refused(['wait', config], {
      exitCode: 5,
      what: /^run steered ended: the run was cancelled; outer step \d+ of 1000000 is safe/,
      cure: /--resume/,
    });
  },
  WAIT_MS_MAX,
);

it('one error says that nobody works on the run, or that a value is wrong', async () => {
  const queue = ['--redis', redis.url];
  await room.refused(['pause', 'unknown', ...queue], {
    exitCode: 2,
    what: /^no coordinator works on run unknown$/,
    where: /^redis:/,
    expected: /the name of a run that is being trained over this queue/,
    cure: /check the name .* --redis and --prefix; .* `qianmo train run\.yaml --resume`/,
  });
  await room.refused(['extend', 'any', '--outer-steps', '+0', ...queue], {
    exitCode: 2,
    what: /^--outer-steps cannot have this value$/,
    where: /^qianmo extend$/,
    expected: /^a number of outer steps, as 600 or \+100$/,
    found: /^\+0$/,
    cure: /--help/,
  });
});
