/** Processes of a bench, each of which prints a line of JSON when it is ready. */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../../../shared/base/clock.js';
import { usageOf } from '../../resident-memory.js';
import { saturation } from './load.js';

export interface Side {
  readonly pid: number;
  /** The line that it printed. */
  readonly ready: unknown;
}

/** Clock ticks in /proc, on every Linux in use. */
const TICKS_PER_SECOND = 100;

const TASKSET = '/usr/bin/taskset';

/**
 * Keeps this process, which is the client, on the second core. False where that cannot be done.
 */
export function keepClientApart(): boolean {
  if (availableParallelism() < 2 || !existsSync(TASKSET)) return false;
  execFileSync(TASKSET, ['-acp', '1', String(process.pid)]);
  return true;
}

export class BenchSides {
  readonly #children: ChildProcess[] = [];
  readonly #areApart: boolean;

  /** @param areApart whether the sides run on the first core alone. */
  constructor(areApart = false) {
    this.#areApart = areApart;
  }

  /** @param file compiled, relative to `from`. */
  node(file: string, from: string, words: readonly string[]): Promise<Side> {
    return this.start(process.execPath, [fileURLToPath(new URL(file, from)), ...words]);
  }

  async start(command: string, words: readonly string[]): Promise<Side> {
    const [file, ...rest] = this.#areApart
      ? ([TASKSET, '-c', '0', command, ...words] as const)
      : ([command, ...words] as const);
    const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    return { pid: child.pid ?? 0, ready: JSON.parse(line) };
  }

  stop(): void {
    for (const child of this.#children) child.kill();
  }
}

export interface Saturated {
  /** Answers a second. */
  readonly perSecond: number;
  /** The time of the server's process for one request, in microseconds. */
  readonly cpuUs: number;
}

/** The first second warms up. */
export async function saturated(
  pid: number,
  load: Parameters<typeof saturation>[0],
): Promise<Saturated> {
  await saturation({ ...load, seconds: 1 });
  const ticksBefore = usageOf(pid).ticks;
  const startMs = systemClock.monotonicMs();
  const perSecond = await saturation(load);
  const answerCount = (perSecond * (systemClock.monotonicMs() - startMs)) / 1_000;
  const cpuUs = (1e6 * (usageOf(pid).ticks - ticksBefore)) / TICKS_PER_SECOND / answerCount;
  return { perSecond, cpuUs };
}
