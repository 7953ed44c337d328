/** The `qianmo` command as a user gives it; what it says goes to standard error. */

import { execFileSync } from 'node:child_process';
import { packageRoot } from '../../infra/cli/package-root.js';

const QIANMO = new URL('infra/bin/qianmo.mjs', packageRoot).pathname;

/** @throws Error when it does not end well. */
export function qianmo(...words: string[]): void {
  execFileSync(process.execPath, [QIANMO, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}
