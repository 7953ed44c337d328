/**
 * Names a process beyond its id, so that other processes can tell whether it still runs. An id says
 * nothing by itself: it is used again after the end of the process, and it counts within one machine and
 * one PID namespace only.
 */

import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import { systemCodeOf } from '../base/system-errors.js';

export const ProcessIdentitySchema = z.strictObject({
  host: z.string(),
  pid: z.int().positive(),
  /** Drawn by the system at each start of the machine; null if the system does not tell. */
  boot: z.string().nullable(),
  pidNamespace: z.string().nullable(),
  /** Clock ticks from the start of the machine to that of the process. */
  startTicks: z.string().nullable(),
});
export type ProcessIdentity = z.infer<typeof ProcessIdentitySchema>;

/** `unknown` for a process that this one cannot see: on another machine or in another container. */
type Liveness = 'runs' | 'ended' | 'unknown';

let own: ProcessIdentity | undefined;

export function thisProcess(): ProcessIdentity {
  own ??= {
    host: hostname(),
    pid: process.pid,
    boot: textOrNull(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    pidNamespace: textOrNull(() => readlinkSync('/proc/self/ns/pid')),
    startTicks: statusOf(process.pid)?.startTicks ?? null,
  };
  return own;
}

export function livenessOf(other: ProcessIdentity): Liveness {
  const self = thisProcess();
  const isVisible =
    other.host === self.host &&
    other.boot === self.boot &&
    other.pidNamespace === self.pidNamespace;
  if (!isVisible) return 'unknown';
  if (!isPidInUse(other.pid)) return 'ended';
  const status = statusOf(other.pid);
  if (status === null || other.startTicks === null) return 'runs';
  return status.startTicks === other.startTicks && !status.hasEnded ? 'runs' : 'ended';
}

function isPidInUse(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return systemCodeOf(cause) !== 'ESRCH';
  }
}

interface ProcessStatus {
  readonly startTicks: string;
  /** True for a process whose parent has not yet collected its exit code. */
  readonly hasEnded: boolean;
}

/** Null where the system has no `/proc`, or does not show the process. */
function statusOf(pid: number): ProcessStatus | null {
  const line = textOrNull(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
  // The second field is the name in parentheses, which may contain spaces and parentheses.
  const fields = line?.slice(line.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields?.[0], fields?.[19]];
  if (state === undefined || startTicks === undefined) return null;
  return { startTicks, hasEnded: state === 'Z' || state === 'X' };
}

function textOrNull(read: () => string): string | null {
  try {
    return read();
  } catch {
    return null;
  }
}
