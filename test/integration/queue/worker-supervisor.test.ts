import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { describe, expect, it } from 'vitest';
import { superviseWorkers } from '../../../coordinator/runs/dispatch-for-run.js';
import { systemClock } from '../../../shared/base/clock.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import {
  runEventSink,
  type RunEvent,
  type StampedEvent,
  sentenceOf,
} from '../../../shared/events/run-events.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { codeOf } from '../../../test/fixtures/told.js';
import { isRunning } from '../../fixtures/faults/processes.js';

const SUPERVISOR_ENTRY = fileURLToPath(
  new URL('../../../dist/test/fixtures/queue/supervising.js', import.meta.url),
);

function supervised(script: string, { count = 1, restartsMax = 0, clock = systemClock } = {}) {
  const events: StampedEvent[] = [];
  let tellAll = (): void => undefined;
  const workers = superviseWorkers({
    count,
    command: { path: process.execPath, argsOf: () => ['--eval', script], env: {} },
    clock,
    sink: runEventSink({ clock: systemClock }, (event) => {
      events.push(event);
      tellAll();
    }),
    restartsMax,
  });
  const saw = (pattern: RegExp): Promise<void> =>
    new Promise((resolve) => {
      tellAll = () => {
        if (pattern.test(JSON.stringify(events))) resolve();
      };
      tellAll();
    });
  return { workers, events, saw };
}

const readyEvent: StampedEvent = {
  ...{ epochMs: 5, worker: 'host-7', kind: 'worker-ready', pid: 7 },
  ...{ server: 'valkey 8.1', redisAddress: 'redis://here' },
};
const READY = `process.send(${JSON.stringify(encodeEvent(readyEvent))});`;

describe('superviseWorkers', () => {
  it('restarts a worker that ends, reports its last output, and gives up at the limit', async () => {
    const script = `console.error('error: no such thing'); process.exitCode = 3;`;
    const { workers, events, saw } = supervised(script, { restartsMax: 2 });
    await saw(/worker-given-up/);
    await workers.stop();
    expect(events.map((event) => sentenceOf(event).text)).toEqual([
      ...Array<string[]>(2)
        .fill([
          'worker 1 ended: exit code 3; its last words: error: no such thing',
          'worker 1: started again',
        ])
        .flat(),
      'worker 1 ended: exit code 3; its last words: error: no such thing',
      'worker 1: not started again: 2 restarts are used up',
    ]);
  });

  it('forgets restarts over time', async () => {
    let elapsedMs = 0;
    const clock = {
      ...systemClock,
      monotonicMs: () => elapsedMs,
      sleep: (_: number, signal?: AbortSignal) => {
        // Two minutes pass between the first ends, and no time between the last ones.
        if (elapsedMs < 20 * 60_000) elapsedMs += 120_000;
        return systemClock.sleep(0, signal);
      },
    };
    const { workers, events, saw } = supervised('', { restartsMax: 2, clock });
    await saw(/worker-given-up/);
    await workers.stop();
    expect(events.filter((event) => codeOf(event) === 'worker-restarted')).toHaveLength(12);
  });

  it('waits longer after each consecutive failure', async () => {
    const delaysMs: number[] = [];
    const clock = {
      ...systemClock,
      sleep: (durationMs: number, signal?: AbortSignal) => {
        delaysMs.push(durationMs);
        return systemClock.sleep(0, signal);
      },
    };
    const { workers, saw } = supervised('', { restartsMax: 7, clock });
    await saw(/worker-given-up/);
    await workers.stop();
    expect(delaysMs.slice(0, 7)).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000]);
  });

  it('reports a program that cannot be started', async () => {
    const events: RunEvent[] = [];
    const workers = superviseWorkers({
      count: 1,
      command: { path: '/nowhere/node', argsOf: () => [], env: {} },
      clock: systemClock,
      sink: (event) => void events.push(event),
      restartsMax: 0,
    });
    while (events.length < 2) await systemClock.sleep(5);
    await workers.stop();
    expect(JSON.stringify(events[0])).toContain('ENOENT');
  });

  it('passes on events of its workers, with their time and place', async () => {
    const { workers, events, saw } = supervised(READY);
    await saw(/worker-given-up/);
    await workers.stop();
    expect(events[0]).toEqual({ ...readyEvent, workerIndex: 0 });
    expect(events[1]).toMatchObject({ kind: 'worker-exited', worker: 'host-7', workerIndex: 0 });
  });

  it('reports once that messages are not events, and continues', async () => {
    const { workers, events, saw } = supervised(
      `process.send('{"kind":"nonsense"}'); process.send({ kind: 'worker-stopped' }); ${READY}`,
    );
    await saw(/worker-given-up/);
    await workers.stop();
    expect(events.slice(0, 2)).toMatchObject([
      {
        ...{ code: 'worker-misunderstood', workerIndex: 0 },
        text: 'sent a message that is not an event: the kind "nonsense"',
      },
      { kind: 'worker-ready' },
    ]);
  });

  it('stops workers that obey and those that do not', async () => {
    const stubborn = `process.on('SIGTERM', () => {}); process.on('disconnect', () => {});
      setInterval(() => {}, 1000); ${READY}`;
    const clock = {
      ...systemClock,
      sleep: (_: number, signal?: AbortSignal) => systemClock.sleep(10, signal),
    };
    const { workers, events, saw } = supervised(stubborn, { count: 2, clock });
    await saw(/workerIndex.*workerIndex/);
    const pids = workers.pids();
    expect(pids).toHaveLength(2);
    await workers.stop();
    expect(pids.filter(isRunning)).toEqual([]);
    expect(workers.pids()).toEqual([]);
    expect(events.every(({ kind }) => kind === 'worker-ready')).toBe(true);
  });

  it('leaves no worker behind when it is killed', async () => {
    const redis = await redisForTest();
    const supervisor = spawn(process.execPath, [SUPERVISOR_ENTRY, redis.url, '{orphans}']);
    const [line] = (await once(supervisor.stdout, 'data')) as [Buffer];
    const pids = z.array(z.int().positive()).length(2).parse(JSON.parse(line.toString()));
    supervisor.kill('SIGKILL');
    while (pids.some(isRunning)) await systemClock.sleep(10);
    await redis.close();
  });
});
