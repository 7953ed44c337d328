/** `cancel` as a command, on a run that other processes compute. */

import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { commandRoom, expectFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const WAIT_MS_MAX = 120_000;

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
beforeAll(async () => {
  await room.done(['prepare', await room.config('any')]);
});

it(
  'a run is cancelled while it is trained',
  async () => {
    const outerSteps = 1_000_000;
    const config = await room.config('steered', ({ training }) => {
      Object.assign(training, { outerSteps });
    });
    const queue = ['--redis', redis.url, '--prefix', '{steered}', '--format', 'json'];
    const train = ['train', config, '--redis', redis.url, '--workers', '1', '--format', 'json'];
    const first = room.start(train);
    onTestFinished(async () => {
      first.signal('SIGKILL');
      await first.ended;
    });
    await first.saw(/checkpoint of outer step 4:/);
    const cancelled = JSON.parse(await room.done(['cancel', 'steered', ...queue])) as unknown;
    expect(cancelled).toMatchObject({
      ...{ run: 'steered', outerSteps, coordinator: { pid: first.pid } },
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

it('one error says that nobody works on the run', async () => {
  await room.refused(['cancel', 'unknown', '--redis', redis.url], {
    exitCode: 2,
    what: /^no coordinator works on run unknown$/,
    where: /^redis:/,
    expected: /the name of a run that is being trained over this queue/,
    cure: /check the name .* --redis and --prefix; .* `qianmo train run\.yaml --resume`/,
  });
});
