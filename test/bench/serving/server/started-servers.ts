/** Servers of a published bundle as `qianmo serve` starts them: the time until they are ready, and their memory. */

import { readFileSync } from 'node:fs';
import { systemClock } from '../../../../shared/base/clock.js';
import { startCommand } from '../../../fixtures/commands/command.js';
import { familyOf } from '../../resident-memory.js';

export interface StartedServer {
  readonly processes: number;
  readonly readyMs: number;
  /** Of all its processes; a page that several have counts once. */
  readonly memoryMiB: number;
}

/** Starts a server, looks at it once it is ready, and stops it. */
export async function startedServer(folder: string, processes: number): Promise<StartedServer> {
  const startMs = systemClock.monotonicMs();
  const words = ['serve', '--bundle', folder, '--port', '0', '--processes', String(processes)];
  const command = startCommand([...words, '--format', 'json'], folder);
  await command.printed(/^\{.*\}$/m);
  const readyMs = systemClock.monotonicMs() - startMs;
  const memoryKiB = familyOf(command.pid).reduce((sum, pid) => sum + sharedMemoryKiB(pid), 0);
  command.signal('SIGTERM');
  await command.ended;
  return { processes, readyMs, memoryMiB: memoryKiB / 1024 };
}

/** Each page divided by the number of processes that have it. */
function sharedMemoryKiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? NaN);
}
