/** Our runs of W2 for the comparison: on one core in process, or a coordinator with workers that each have one core. */

import { execFileSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { savedMetaParametersOf, openPreparedRun } from '../../../coordinator/runs/run-files.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { loadConfig } from '../../../shared/config/yaml-file.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { MetaParameters } from '../../../shared/models/meta-parameters.js';
import type { BenchContext } from '../bench-context.js';
import { familyOf } from '../resident-memory.js';
import { onOwnRedis, readyWorkers, startedNode } from '../scaling/bench-processes.js';
import { bareStepMs, receivedByteCount } from '../scaling/bare-exchange.js';
import { steadyDeliveryCount, steadyTasksPerSecond } from '../scaling/steady-rate.js';
import { w2Run, writeW2Log, type W2Size } from '../scaling/w2-run.js';
import type { Contestant } from './contestants.js';

const QIANMO = fileURLToPath(new URL('infra/bootstrap/qianmo.mjs', packageRoot));
const NO_COMPUTE_WORKER = fileURLToPath(new URL('no-compute-worker.js', import.meta.url));

export interface OurRoom {
  readonly folder: string;
  readonly size: W2Size;
  readonly outerSteps: number;
}

const configOf = ({ folder }: OurRoom): string => join(folder, 'w2.yaml');

/** Writes log and config and prepares the store. */
export async function openOurRoom(
  folder: string,
  size: W2Size,
  outerSteps: number,
): Promise<OurRoom> {
  const room = { folder, size, outerSteps };
  const log = join(folder, 'w2.csv');
  writeW2Log(log, size);
  const run = w2Run(log, join(folder, 'store'), outerSteps, size);
  writeFileSync(configOf(room), stringify({ ...run, output: join(folder, 'run') }));
  await ended(qianmo(room, ['prepare', configOf(room)]), 'prepare');
  return room;
}

export async function preparedIn(room: OurRoom, context: BenchContext) {
  return openPreparedRun(await loadConfig(RUN_CONFIG, configOf(room)), context);
}

/** The parameters after the last run in the room. */
export async function learnedIn(room: OurRoom, context: BenchContext): Promise<MetaParameters> {
  const saved = await savedMetaParametersOf(await preparedIn(room, context), context);
  if (saved === null) throw new Error('the run has left no checkpoint');
  return saved.metaParameters;
}

const eventsIn = ({ folder }: OurRoom): string => join(folder, 'run/events/events-000001.ndjson');

export function steadyRateIn(room: OurRoom): number {
  return steadyTasksPerSecond(eventsIn(room), room.size.tasksPerOuterStep);
}

const BARE_STEPS = 30;

/**
 * Trains to the end.
 *
 * @returns the milliseconds that a step of its bytes alone takes over the same Redis, where nothing is computed; else null
 */
export async function trainIn(
  room: OurRoom,
  { system, workerCount, computes }: Pick<Contestant, 'system' | 'workerCount' | 'computes'>,
): Promise<number | null> {
  rmSync(join(room.folder, 'run'), { recursive: true, force: true });
  const train = ['train', configOf(room), '--fresh'];
  if (workerCount === 0) {
    await ended(qianmo(room, [...train, '--processes', '1'], 0), 'train');
    return null;
  }
  if (system === 'ours') {
    const coordinator = qianmo(room, [...train, '--workers', String(workerCount)]);
    const end = ended(coordinator, 'train');
    await Promise.all([end, pinWorkers(coordinator.pid ?? 0, workerCount)]);
    return null;
  }
  return onOwnRedis(async (redisUrl, workers) => {
    for (let core = 0; core < workerCount; core += 1) {
      const name = `w${core}`;
      const words = ['worker', '--redis', redisUrl, '--name', name, '--format', 'json'];
      workers.push(
        computes
          ? qianmo(room, words, core)
          : startedNode(room.folder, [NO_COMPUTE_WORKER, redisUrl, name], { core }),
      );
    }
    await Promise.all(workers.map((worker) => readyWorkers(worker)));
    const receivedBefore = await receivedByteCount(redisUrl);
    await ended(qianmo(room, [...train, '--redis', redisUrl]), 'train');
    if (computes) return null;
    const byteCount = (await receivedByteCount(redisUrl)) - receivedBefore;
    const deliveryCount = steadyDeliveryCount(eventsIn(room));
    const each = Math.round(byteCount / room.outerSteps / 2 / deliveryCount);
    const bareStep = { deliveryCount, byteCount: each, computeMs: 0 };
    return bareStepMs(redisUrl, new Array<number>(workerCount).fill(1), bareStep, BARE_STEPS);
  });
}

function qianmo(room: OurRoom, words: readonly string[], core?: number): ChildProcess {
  return startedNode(room.folder, [QIANMO, ...words], { core });
}

async function ended(child: ChildProcess, what: string): Promise<void> {
  child.stdout?.resume();
  await once(child, 'close');
  if (child.exitCode !== 0) throw new Error(`qianmo ${what} ended with ${child.exitCode}`);
}

const LOOK_MS = 100;
const LOOKS_MAX = 600;

/**
 * Pins the compute processes of a coordinator's workers, each to a core of its own, and a worker that is alone with its own.
 *
 * @throws Error when the coordinator has not started them within a minute.
 */
async function pinWorkers(coordinatorPid: number, workerCount: number): Promise<void> {
  const isWorker = (pid: number): boolean => commandLineOf(pid).includes('/cli/local-worker.js\0');
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const workers = familyOf(coordinatorPid).filter(isWorker);
    const computing = workers.flatMap((worker) => familyOf(worker).slice(1));
    if (computing.length === workerCount) {
      const pinned =
        workerCount === 1 ? [[...workers, ...computing]] : computing.map((pid) => [pid]);
      for (const [core, pids] of pinned.entries())
        for (const pid of pids)
          execFileSync('taskset', ['-acp', String(core), String(pid)], { stdio: 'ignore' });
      return;
    }
    await systemClock.sleep(LOOK_MS);
  }
  throw new Error(`the coordinator has not started ${workerCount} workers`);
}

/** Empty if the process has ended meanwhile. */
function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
