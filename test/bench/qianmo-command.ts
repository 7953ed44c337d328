/** The `qianmo` command as a user runs it; its diagnostics go to standard error. */

import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../infra/library/package-root.js';

const EXECUTABLE = 'infra/bootstrap/qianmo.mjs';
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
