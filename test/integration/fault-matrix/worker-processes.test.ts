/** Workers and compute processes that are killed, suspended or sick, in each phase of a job. */

import { expect } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import {
  cell,
  FaultScene,
  prefixOf,
  type RunDepartures,
} from '../../fixtures/faults/fault-scene.js';
import { computePidOf, signalIfThere, stopped } from '../../fixtures/faults/processes.js';
import { openedOnce } from '../../fixtures/opened.js';

const LOST = /is tried again: the worker that held the job is lost/;

/** A job of this scene takes milliseconds; one that is late all the same costs an attempt of five. */
const JOB_TIMEOUT_MS = 6_000;

const scene = openedOnce(() => FaultScene.open());

/** The command that a worker sends in a phase; null where its compute process is stopped instead. */
const COMMAND_BY_PHASE: Readonly<Record<string, ((prefix: string) => RegExp) | null>> = {
  'while it fetches inputs': (prefix) => new RegExp(`getex\\r\\n\\$\\d+\\r\\n${prefix}:blob:`),
  'while its compute process has the job': null,
  'while it sends the output': (prefix) => new RegExp(`set\\r\\n\\$\\d+\\r\\n${prefix}:blob:`),
  'while it hands the result in': (prefix) => new RegExp(`${prefix}:inner-loops:completed`),
};

/** A run whose only worker has reached a phase of its first job. */
async function caughtWorker(name: string, phase: string, departures: RunDepartures = {}) {
  const proxy = await scene.proxy(name);
  const worker = scene.worker(name, { redisUrl: proxy.url });
  const computePid = await computePidOf(worker);
  const command = COMMAND_BY_PHASE[phase]?.(prefixOf(name)) ?? null;
  if (command === null) await stopped(computePid);
  const caught = command === null ? worker.printed(/"kind":"job-started"/) : proxy.hold(command);
  const run = await scene.coordinatorHere(name, departures);
  await caught;
  return { worker, computePid, run, proxy };
}

for (const phase of Object.keys(COMMAND_BY_PHASE)) {
  cell('worker killed', phase, async (name) => {
    const { worker, computePid, run } = await caughtWorker(name, phase);
    worker.signal('SIGKILL');
    signalIfThere(computePid, 'SIGCONT');
    await worker.ended;
    await scene.workerHere(name);
    await scene.expectDigest(run);
  });
}

for (const phase of [
  'while it fetches inputs',
  'while it sends the output',
  'while it hands the result in',
])
  cell('worker suspended', phase, async (name) => {
    const { worker, computePid, run, proxy } = await caughtWorker(name, phase);
    await stopped(worker.pid);
    // The loss of a job shows when another worker takes it.
    await scene.workerHere(name);
    await run.saw(LOST);
    // The worker wakes up and hands in what it has, which is late.
    worker.signal('SIGCONT');
    signalIfThere(computePid, 'SIGCONT');
    proxy.release();
    await scene.expectDigest(run);
    await expectCleanStop(worker);
  });

const WITH_A_JOB = 'while its compute process has the job';

cell('compute process killed', 'while it has a job', async (name) => {
  const { worker, computePid, run } = await caughtWorker(name, WITH_A_JOB);
  process.kill(computePid, 'SIGKILL');
  await scene.expectDigest(run);
  await expectCleanStop(worker);
});

cell('compute process suspended', 'while it has a job, for good', async (name) => {
  const { worker, run } = await caughtWorker(name, WITH_A_JOB, {
    queue: { jobTimeoutMs: JOB_TIMEOUT_MS },
  });
  const { diagnostics } = await scene.expectDigest(run);
  expect(diagnostics).toMatch(/is tried again: /);
  await expectCleanStop(worker);
});

cell('worker asked to stop by SIGTERM', 'with a job in flight', async (name) => {
  const { worker, run } = await caughtWorker(name, WITH_A_JOB);
  await expectCleanStop(worker);
  await scene.workerHere(name);
  const { diagnostics } = await scene.expectDigest(run);
  // The job was handed back, which costs no attempt.
  expect(diagnostics).not.toMatch(/is tried again: /);
});

async function expectCleanStop(worker: RunningCommand): Promise<void> {
  worker.signal('SIGTERM');
  const ended = await worker.ended;
  expect(ended.exitCode, ended.diagnostics).toBe(0);
}
