/**
 * Processes that a command starts before its own code is loaded and its config is read, because they take longest to be
 * ready. Each is taken by the call that would start one like it, or ended. This file imports little.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { numericalEnvironment } from '../../worker/compute/device/numerical-environment.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import { forkedEntry, type ForkedEntry } from '../../worker/process/forked-entry.js';

type Environment = Readonly<Record<string, string | undefined>>;

export const WORKER_ENTRY = fileURLToPath(new URL('../../worker/main.js', import.meta.url));
/** Devices beside which each worker gets a GPU of its own, which is not known yet. */
const GPU_DEVICES = ['/dev/nvidiactl', '/dev/dxg'];
/** A worker and its compute process. */
const PROCESSES_PER_WORKER = 2;
/**
 * The workers that share a process, where processor time is short. A killed process takes the jobs of all, so more in one would leave a
 * larger part of a run without workers for the seconds of a start.
 */
export const WORKERS_PER_PROCESS = 2;

/** The environment of the processes below, as text. */
let startedIn = '';
let compute: ForkedEntry[] = [];
let workers: ChildProcess[] = [];

/** The number of local workers that start at once. The others follow when one is ready, which makes that one ready earlier. */
export function firstWorkerCount(): number {
  return Math.max(1, Math.floor(availableParallelism() / PROCESSES_PER_WORKER));
}

/** The processes that start at once where workers share them. */
export function firstProcessCount(): number {
  return Math.ceil(firstWorkerCount() / WORKERS_PER_PROCESS);
}

/** Starts what this command line will need, if the config is as most are: for any device, and not portable. */
export function startAhead(words: readonly string[], environment: Environment): void {
  if (words[0] !== 'train' || words.some((word) => /^(--help|-h|--plugin(=.*)?)$/.test(word)))
    return;
  startedIn = JSON.stringify(environment);
  const workerCount = countOf('--workers', words) ?? 0;
  const processCount = countOf('--processes', words) ?? (isQueueNamed(words, environment) ? 0 : 1);
  compute = Array.from({ length: processCount }, () => computeAhead(environment));
  // Whether many workers share processes is not known yet.
  const isEnough = workerCount <= firstWorkerCount();
  const count = isEnough ? workerCount : firstProcessCount();
  if (count > 0 && !GPU_DEVICES.some((path) => existsSync(path)))
    workers = Array.from({ length: count }, () => workerAhead(environment));
}

/** A process of the default device that nobody has taken yet; the process is ended if it is not as demanded. */
export function takeComputeAhead(isDefault: boolean, environment: Environment): ForkedEntry | null {
  const taken = compute.shift();
  if (taken === undefined) return null;
  if (isDefault && JSON.stringify(environment) === startedIn) return taken;
  taken.process.kill('SIGKILL');
  return null;
}

/** Gives a worker that was started ahead its arguments and the address of its queue; null if there is none. */
export function takeWorkerAhead(
  args: readonly string[],
  redisUrl: string,
  environment: Environment,
): ChildProcess | null {
  if (JSON.stringify(environment) !== startedIn) endAhead();
  const worker = workers.shift();
  if (worker?.pid === undefined || worker.exitCode !== null || worker.signalCode !== null)
    return null;
  // The channel is open to its two ends alone, unlike arguments.
  worker.send([...args, '--redis', redisUrl], () => undefined);
  return worker;
}

/** Ends what nobody has taken. */
export function endAhead(): void {
  endComputeAhead();
  for (const { pid } of workers) if (pid !== undefined) killGroup(pid);
  workers = [];
}

export function endComputeAhead(): void {
  for (const each of compute) each.process.kill('SIGKILL');
  compute = [];
}

function computeAhead(environment: Environment): ForkedEntry {
  return forkedEntry({
    environment: numericalEnvironment(computeEnvironment(environment, 'auto', undefined), false),
    ...{ pluginArguments: [], backend: 'auto' },
  });
}

/** Ends a worker with its compute process. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function workerAhead(environment: Environment): ChildProcess {
  const worker = spawn(process.execPath, [WORKER_ENTRY, '--arguments-follow'], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
  });
  // A worker that cannot be started is started again by whoever wants it, and reported there.
  worker.on('error', () => undefined);
  return worker;
}

/** Whether workers will compute. A config that names a queue is not read yet. */
function isQueueNamed(words: readonly string[], { QIANMO_REDIS_URL: redis }: Environment): boolean {
  return (redis ?? '') !== '' || words.some((word) => /^--(workers|redis)(=|$)/.test(word));
}

function countOf(option: string, words: readonly string[]): number | null {
  const index = words.findIndex((word) => word === option || word.startsWith(`${option}=`));
  const text = words[index]?.split('=')[1] ?? words[index + 1];
  return index >= 0 && text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : null;
}
