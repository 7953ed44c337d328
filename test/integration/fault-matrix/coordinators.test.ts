/** Coordinators that are killed, suspended or asked to stop, in each phase of a run, and clocks that differ. */

import { expect } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { cell, FaultScene, prefixOf } from '../../fixtures/faults/fault-scene.js';
import { heldJob } from '../../fixtures/faults/held-job.js';
import {
  skewedClock,
  standsStill,
  stopped,
  suspendedBeforeNaming,
} from '../../fixtures/faults/processes.js';
import { openedOnce } from '../../fixtures/opened.js';

const scene = openedOnce(() => FaultScene.open());

const AN_HOUR_MS = 3_600_000;
/** The outer step whose first job is held, counted from 0. */
const STEP_UNDER_WAY = 2;

/** A coordinator in a phase of its run, and what lets it go on once it does. */
interface CaughtCoordinator {
  readonly run: RunningCommand;
  readonly release: () => void;
}

/** Catches the coordinator at a command that it sends. */
function atCommand(commandOf: (prefix: string) => RegExp) {
  return async (name: string): Promise<CaughtCoordinator> => {
    const proxy = await scene.proxy(name);
    await scene.workerHere(name);
    const held = proxy.hold(commandOf(prefixOf(name)));
    const run = await scene.coordinator(name, { redisUrl: proxy.url });
    await held;
    return { run, release: () => proxy.release() };
  };
}

async function whileWorkersCompute(name: string): Promise<CaughtCoordinator> {
  const { executor, held, release } = heldJob(scene.executor, 1, STEP_UNDER_WAY);
  await scene.workerHere(name, { executor });
  const run = await scene.coordinator(name);
  await held;
  return { run, release };
}

async function whileItWritesACheckpoint(name: string): Promise<CaughtCoordinator> {
  await scene.workerHere(name);
  const environment = suspendedBeforeNaming(/\/checkpoints\/manifests\//);
  const run = await scene.coordinator(name, { environment });
  await standsStill(run.pid);
  return { run, release: () => undefined };
}

const CATCH_BY_PHASE: Readonly<Record<string, (name: string) => Promise<CaughtCoordinator>>> = {
  'before its first job': atCommand(
    (prefix) => new RegExp(`set\\r\\n\\$\\d+\\r\\n${prefix}:blob:`),
  ),
  'while it adds jobs': atCommand((prefix) => new RegExp(`${prefix}:inner-loops:id\\r\\n`)),
  'while its workers compute': whileWorkersCompute,
  'while it reads a result': atCommand(
    (prefix) => new RegExp(`getex\\r\\n\\$\\d+\\r\\n${prefix}:blob:`),
  ),
  'while it writes a checkpoint': whileItWritesACheckpoint,
};

for (const [phase, catchIt] of Object.entries(CATCH_BY_PHASE)) {
  cell('coordinator killed', phase, async (name) => {
    const caught = await catchIt(name);
    caught.run.signal('SIGKILL');
    expect((await caught.run.ended).signal).toBe('SIGKILL');
    caught.release();
    await scene.expectDigestOnResume(name);
  });

  cell('coordinator suspended', phase, async (name) => {
    const { run, release } = await catchIt(name);
    await stopped(run.pid);
    release();
    run.signal('SIGCONT');
    await scene.expectDigest(run);
  });
}

cell('coordinator asked to stop by SIGTERM', 'with a job in flight', async (name) => {
  const { run, release } = await whileWorkersCompute(name);
  run.signal('SIGTERM');
  const { exitCode, diagnostics } = await run.ended;
  expect(exitCode, diagnostics).toBe(4);
  release();
  await scene.expectDigestOnResume(name);
});

cell('clock skewed', 'coordinator an hour ahead, worker an hour behind', async (name) => {
  const worker = scene.worker(name, { environment: skewedClock(-AN_HOUR_MS) });
  const run = await scene.coordinator(name, { environment: skewedClock(AN_HOUR_MS) });
  await scene.expectDigest(run);
  worker.signal('SIGTERM');
  expect((await worker.ended).exitCode).toBe(0);
});
