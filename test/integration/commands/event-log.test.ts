/** The event log in the output of a run: every line parses, and together they describe the run. */

import { appendFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { EventKind, StampedEvent, StampedEventOf } from '../../../shared/events/run-events.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { codeOf } from '../../../test/fixtures/told.js';

const OUTER_STEPS = 60;
/** On a small machine, two workers of so many jobs share a process. */
const SHORT = { outerSteps: OUTER_STEPS, leavesPerOuterStepMin: 6 };

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
});
afterAll(() => room.remove());

async function eventsOf(run: string): Promise<StampedEvent[]> {
  const folder = room.path(join(run, 'events'));
  const texts = await Promise.all(
    (await readdir(folder)).sort().map((name) => readFile(join(folder, name), 'utf8')),
  );
  return texts.flatMap((text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => parseEventLine(line)),
  );
}

function only<Kind extends EventKind>(
  events: readonly StampedEvent[],
  kind: Kind,
): StampedEventOf<Kind>[] {
  // All events of one kind have the same type.
  return events.filter((event) => event.kind === kind) as unknown as StampedEventOf<Kind>[];
}

it('records start, workers, steps, a worker that was killed, checkpoints and the end', async () => {
  const run = await room.config('logged', ({ training }) =>
    Object.assign(training, { ...SHORT, checkpointEveryOuterSteps: 20 }),
  );
  await room.done(['prepare', run]);
  const training = room.start(['train', run, '--workers', '2']);
  // Whichever is ready first: the run may be over before the other is.
  const [, number, pid] = await training.saw(/^worker (\d) \(process (\d+)\) takes jobs/m);
  const victim = Number(pid);
  await training.saw(/^step /m);
  process.kill(victim, 'SIGKILL');
  const ended = await training.ended;
  expect(ended.exitCode, ended.diagnostics).toBe(0);
  expect(ended.diagnostics).toContain(`warning: worker ${number} ended: signal SIGKILL`);

  const events = await eventsOf('logged');
  expect(new Set(events.map(({ runId }) => runId))).toEqual(new Set(['logged']));
  const times = events.map(({ epochMs }) => epochMs);
  expect(Math.max(...times) - Math.min(...times)).toBeLessThan(10 * 60_000);
  expect(only(events, 'run-started')).toMatchObject([{ outerStep: 0, outerSteps: OUTER_STEPS }]);
  expect(only(events, 'outer-step').map(({ outerStep }) => outerStep)).toEqual(
    Array.from({ length: OUTER_STEPS }, (_, index) => index + 1),
  );
  expect(only(events, 'checkpoint').map(({ outerStep }) => outerStep)).toEqual([20, 40, 60]);
  const ready = only(events, 'worker-ready');
  expect(new Set(ready.map(({ workerIndex }) => workerIndex))).toEqual(new Set([0, 1]));
  expect(only(events, 'compute-ready').length).toBeGreaterThanOrEqual(2);
  expect(only(events, 'job-finished').length).toBeGreaterThan(0);
  // The other worker is in the same process, or lives.
  const killed = only(events, 'worker-exited');
  expect(killed.map(({ workerIndex }) => workerIndex)).toContain(Number(number) - 1);
  for (const each of killed) expect(each).toMatchObject({ pid: victim, signal: 'SIGKILL' });
  const readyFirst = ready.find(({ pid }) => pid === victim);
  expect(killed.find(({ workerIndex }) => workerIndex === readyFirst?.workerIndex)?.worker).toBe(
    readyFirst?.worker,
  );
  const restarted = events.filter((event) => codeOf(event) === 'worker-restarted');
  expect(restarted.map(({ workerIndex }) => workerIndex)).toEqual(
    killed.map(({ workerIndex }) => workerIndex),
  );
  expect(only(events, 'run-finished')).toMatchObject([{ outerStep: OUTER_STEPS }]);

  // Whoever computes, the losses of each size have the same bits.
  const alone = await room.config('alone', ({ training }) => Object.assign(training, SHORT));
  await room.done(['train', alone]);
  const losses = (told: readonly StampedEvent[]) =>
    only(told, 'outer-step').map(({ queryLoss, queryLossBefore, bySize }) => ({
      ...{ queryLoss, queryLossBefore, bySize },
    }));
  expect(losses(events)).toEqual(losses(await eventsOf('alone')));
  for (const { queryLoss, bySize } of losses(events))
    expect(bySize?.queryLossSums.reduce((sum, part) => sum + part)).toBeCloseTo(queryLoss, 12);
  // The first outer step and every tenth measure the query loss before adaptation.
  const measured = only(events, 'outer-step').filter(
    ({ queryLossBefore }) => queryLossBefore !== undefined,
  );
  expect(measured.map(({ outerStep }) => outerStep)).toEqual([1, 10, 20, 30, 40, 50, 60]);
  expect(measured[0]?.bySize?.queryLossBeforeSums?.reduce((sum, part) => sum + part)).toBeCloseTo(
    measured[0]?.queryLossBefore ?? NaN,
    12,
  );
});

it('continues in the same log, and records how a run failed', async () => {
  const run = await room.config('stopped', ({ training }) =>
    Object.assign(training, { outerSteps: 400, checkpointEveryOuterSteps: 5 }),
  );
  await room.done(['prepare', run]);
  const training = room.start(['train', run]);
  await training.saw(/checkpoint of outer step 5:/);
  training.signal('SIGINT');
  await training.ended;
  const failed = only(await eventsOf('stopped'), 'run-failed');
  expect(failed).toMatchObject([{ failure: 'interrupted' }]);
  // A coordinator that was killed would leave a partial line.
  const [segment = ''] = await readdir(room.path(join('stopped', 'events')));
  await appendFile(room.path(join('stopped', 'events', segment)), '{"schemaVersion":1,"epo');
  await room.done(['train', run, '--processes', '1', '--resume']);
  const events = await eventsOf('stopped');
  expect(only(events, 'run-started').map(({ outerStep }) => outerStep)).toEqual([
    0,
    failed[0]?.outerStep,
  ]);
  // A slow machine tells between the last events that the call is alive.
  const kinds = events.map(({ kind }) => kind).filter((kind) => kind !== 'call-alive');
  expect(kinds.slice(-3)).toEqual(['run-finished', 'compute-ended', 'call-ended']);
});

it('is printed by a worker on request', async () => {
  const redis = await redisForTest();
  const worker = room.start(['worker', '--redis', redis.url, '--name', 'w', '--format', 'json']);
  while (!((await redis.client.client('LIST')) as string).includes('name=qianmo'))
    await new Promise((resolve) => setImmediate(resolve));
  worker.signal('SIGTERM');
  const { output, diagnostics, exitCode } = await worker.ended;
  expect(exitCode, diagnostics).toBe(0);
  const events = output
    .trimEnd()
    .split('\n')
    .map((line) => parseEventLine(line));
  expect(new Set(events.map(({ worker: name }) => name))).toEqual(new Set(['w']));
  expect(only(events, 'compute-ready')).toHaveLength(1);
  expect(only(events, 'compute-ended')).toMatchObject([{ endedBecause: 'closed' }]);
  await redis.close();
});
