/** Views of a run from its output, while it lives, after it has ended, and after it was killed. */

import { expect, it, onTestFinished } from 'vitest';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const room = openedOnce(commandRoom);

const statusOf = async (run: string): Promise<Record<string, unknown>> =>
  JSON.parse(await room.done(['status', run, '--format', 'json'])) as Record<string, unknown>;

it('follows a run through its life, a kill, and its resume', async () => {
  const run = await room.config('run', ({ training }) =>
    Object.assign(training, { outerSteps: 2_000, checkpointEveryOuterSteps: 5 }),
  );
  await room.done(['prepare', run]);
  const training = room.start(['train', run]);
  await training.saw(/checkpoint of outer step 5:/);
  expect(await statusOf(run)).toMatchObject({
    ...{ run: 'run', state: 'running', ending: null },
    call: { name: 'train', process: { pid: training.pid } },
    training: { outerSteps: 2_000 },
  });
  const logs = room.start(['logs', 'run', '--follow']);
  await logs.printed(/notice {3}checkpoint of outer step 10:/);
  training.signal('SIGKILL');
  await training.ended;
  expect(await statusOf('run')).toMatchObject({ state: 'lost' });
  expect((await logs.ended).exitCode).toBe(0);
  await room.refused(['wait', 'run'], {
    ...{ exitCode: 4, what: /run run is lost/, where: /run/, cure: /--resume/ },
  });
  const resumed = room.start(['train', run, '--resume']);
  const waiting = room.start(['wait', 'run']);
  await resumed.saw(/checkpoint of outer step/);
  resumed.signal('SIGINT');
  await resumed.ended;
  expect((await waiting.ended).exitCode).toBe(4);
  expect(await room.done(['runs', '.'])).toMatch(/^run +interrupted +train/m);
  await room.refused(['status', 'nothing'], {
    ...{ exitCode: 2, what: /there is no record/, where: /nothing/, cure: /qianmo runs/ },
  });
});

it('lists the workers of a queue', async () => {
  const redis = await redisForTest();
  const queue = ['--redis', redis.url, '--prefix', '{listed}'];
  const worker = room.start(['worker', ...queue, '--name', 'first', '--device', 'cpu']);
  onTestFinished(async () => {
    worker.signal('SIGTERM');
    await worker.ended;
    await redis.close();
  });
  expect(await room.done(['workers', '--redis', redis.url, '--prefix', '{other}'])).toBe(
    'no workers\n',
  );
  await worker.saw(/ready|takes jobs|waits/);
  // A worker that was started elsewhere tells its device and its memory itself.
  expect(await room.done(['workers', ...queue])).toMatch(
    /^first +CPU \(.+\) +\d+( \+ \d+)? MiB .* waits$/m,
  );
});
