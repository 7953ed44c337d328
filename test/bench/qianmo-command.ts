/** The `qianmo` command as a user runs it; its diagnostics go to standard error. */

import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { packageRoot } from '../../infra/library/package-root.js';

const EXECUTABLE = 'infra/bin/qianmo.mjs';
const QIANMO = new URL(EXECUTABLE, packageRoot).pathname;
const OUTPUT_BYTE_COUNT_MAX = 64 * 1024 * 1024;

/** @throws Error when it fails. */
export function qianmo(...words: string[]): void {
  execFileSync(process.execPath, [QIANMO, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Where a command runs, and which checkout it belongs to. */
export interface CommandPlace {
  /** The root of the checkout that the command belongs to. */
  readonly checkout: string;
  /** The working folder; relative paths in configs start here. */
  readonly folder: string;
}

/**
 * @returns the standard output.
 * @throws Error that contains the diagnostics if the command fails.
 */
export async function qianmoIn(
  { checkout, folder }: CommandPlace,
  ...words: string[]
): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(checkout, EXECUTABLE), ...words],
    { cwd: folder, maxBuffer: OUTPUT_BYTE_COUNT_MAX },
  );
  return stdout;
}

export interface MeteredCommand {
  readonly output: string;
  /** User and system time of the command and of all processes that it started. */
  readonly processorSeconds: number;
}

/** The same; a shell tells what the processor has done, which on a busy machine says more than the time that went by. */
export async function meteredQianmo(
  { checkout, folder }: CommandPlace,
  ...words: string[]
): Promise<MeteredCommand> {
  const script = '"$@" || exit $?; times >&3';
  const node = [process.execPath, join(checkout, EXECUTABLE), ...words];
  const metered = spawn('sh', ['-c', script, 'sh', ...node], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  });
  const [output, times, [code]] = await Promise.all([
    textOf(metered.stdio[1]),
    textOf(metered.stdio[3]),
    once(metered, 'exit') as Promise<[number | null]>,
  ]);
  if (code !== 0) throw new Error(`qianmo ${words.join(' ')} ended with ${String(code)}`);
  return { output, processorSeconds: childSecondsOf(times) };
}

/** The second line of `times` is that of the children: `0m1.5s 0m0.25s`, user and system. */
function childSecondsOf(times: string): number {
  const [, children = ''] = times.trim().split('\n');
  const parts = [...children.matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) throw new Error(`times of a shell that are no times: ${times}`);
  return parts.reduce(
    (sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds),
    0,
  );
}

async function textOf(stream: unknown): Promise<string> {
  if (!(stream instanceof Readable)) throw new Error('a command without this output');
  return (await stream.toArray()).join('');
}
