/**
 * Runs a command and measures, from outside, how much memory and processor time it and its children
 * use.
 */

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { systemClock } from '../../shared/base/clock.js';

export interface WatchedCommand {
  readonly seconds: number;
  /** The largest observed sum over all of its processes. */
  readonly residentMiBMax: number;
  /** High-water mark that the kernel kept of the largest single process. */
  readonly processMiBMax: number;
  /**
   * Processor time that the kernel counted until shortly before the end; other load does not add to
   * it.
   */
  readonly cpuSeconds: number;
  readonly output: string;
}

const LOOK_INTERVAL_MS = 50;
/** Clock ticks in /proc, on every Linux in use. */
export const TICKS_PER_SECOND = 100;

/**
 * @param disturb may end the command by a signal; without it, the command must end by itself.
 * @throws Error when it ends with another exit code than 0.
 */
export async function watched(
  args: readonly string[],
  disturb?: (pid: number) => Promise<void>,
): Promise<WatchedCommand> {
  const startMs = systemClock.monotonicMs();
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const most = { residentKiB: 0, processKiB: 0, ticks: 0 };
  const timer = setInterval(() => {
    const family = familyOf(child.pid ?? 0).map(usageOf);
    const together = family.reduce((sum, { residentKiB }) => sum + residentKiB, 0);
    most.residentKiB = Math.max(most.residentKiB, together);
    most.processKiB = Math.max(most.processKiB, ...family.map(({ highWaterKiB }) => highWaterKiB));
    const ticks = family.reduce((sum, process) => sum + process.ticks, 0);
    most.ticks = Math.max(most.ticks, ticks);
  }, LOOK_INTERVAL_MS);
  try {
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
    });
    await disturb?.(child.pid ?? 0);
    const exitCode = await ended;
    const isBySignal = exitCode === null && disturb !== undefined;
    if (exitCode !== 0 && !isBySignal)
      throw new Error(`${args.join(' ')} ended with exit code ${exitCode}`);
  } finally {
    clearInterval(timer);
  }
  return {
    seconds: Math.round((systemClock.monotonicMs() - startMs) / 100) / 10,
    residentMiBMax: Math.round(most.residentKiB / 1024),
    processMiBMax: Math.round(most.processKiB / 1024),
    cpuSeconds: most.ticks / TICKS_PER_SECOND,
    output,
  };
}

/** A process and all its descendants. */
export function familyOf(root: number): number[] {
  const childrenByParent = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // After the name in brackets, which may contain anything: state, then parent.
    const parent = Number(/.*\) \S (\d+)/s.exec(textOf(`/proc/${name}/stat`))?.[1]);
    childrenByParent.set(parent, [...(childrenByParent.get(parent) ?? []), Number(name)]);
  }
  const family = [root];
  for (const pid of family) family.push(...(childrenByParent.get(pid) ?? []));
  return family;
}

export function usageOf(pid: number) {
  const status = textOf(`/proc/${pid}/status`);
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  // Fields 14 and 15, user and system time; the state is field 3.
  const [, user, system] =
    /.*\) \S (?:\S+ ){10}(\d+) (\d+)/s.exec(textOf(`/proc/${pid}/stat`)) ?? [];
  return {
    residentKiB: field('VmRSS'),
    highWaterKiB: field('VmHWM'),
    ticks: Number(user ?? 0) + Number(system ?? 0),
  };
}

/** Empty when the process has ended meanwhile. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
