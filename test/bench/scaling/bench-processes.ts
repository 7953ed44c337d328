/** The processes of a bench over the queue: a Redis of its own, workers, and commands in a folder. */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGTERM');
});

interface Pipes {
  /** That of all its processes and threads; any if absent. */
  readonly core?: number | undefined;
  readonly stderr?: 'pipe' | 'ignore';
}

/** Runs Node in the folder. */
export function startedNode(
  folder: string,
  args: readonly string[],
  { core, stderr = 'ignore' }: Pipes = {},
): ChildProcess {
  const pin = core === undefined ? [] : ['taskset', '-c', String(core)];
  const [program = '', ...words] = [...pin, process.execPath, ...args];
  const child = spawn(program, words, { cwd: folder, stdio: ['ignore', 'pipe', stderr] });
  running.add(child);
  child.once('close', () => running.delete(child));
  return child;
}

/** Resolves when so many workers of the process take jobs. */
export async function readyWorkers(worker: ChildProcess, count = 1): Promise<void> {
  if (worker.stdout === null) throw new Error('a worker prints its events');
  let readyCount = 0;
  for await (const line of createInterface({ input: worker.stdout })) {
    if (line.includes('"worker-ready"')) readyCount += 1;
    if (readyCount < count) continue;
    worker.stdout.resume();
    return;
  }
  throw new Error('a worker ended before it was ready');
}

export async function stopAll(workers: readonly ChildProcess[]): Promise<void> {
  for (const worker of workers) {
    if (worker.exitCode !== null || worker.signalCode !== null) continue;
    worker.kill('SIGTERM');
    await once(worker, 'close');
  }
}

/** @param work adds the workers that it starts, which are stopped after it */
export async function onOwnRedis<Result>(
  work: (url: string, workers: ChildProcess[]) => Promise<Result>,
): Promise<Result> {
  const redis = await redisForTest();
  const workers: ChildProcess[] = [];
  try {
    return await work(redis.url, workers);
  } finally {
    await stopAll(workers);
    await redis.close();
  }
}
