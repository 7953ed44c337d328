/** Pins the compute processes that a coordinator's workers started, each to a core of its own, and a worker that is alone with its own. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { systemClock } from '../../../shared/base/clock.js';

const LOOK_MS = 100;
const LOOKS_MAX = 600;

/** @throws Error when the coordinator has not started them within a minute. */
export async function pinWorkers(coordinatorPid: number, workerCount: number): Promise<void> {
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const workers = childrenOf(coordinatorPid).filter((pid) =>
      commandOf(pid).some((word) => word.endsWith('/worker/main.js')),
    );
    const computing = workers.flatMap(childrenOf);
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

function childrenOf(pid: number): number[] {
  const text = textOf(`/proc/${pid}/task/${pid}/children`).trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

function commandOf(pid: number): string[] {
  return textOf(`/proc/${pid}/cmdline`).split('\0');
}

/** Empty when the process has ended. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
