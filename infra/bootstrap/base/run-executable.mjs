// Runs the qianmo executable as a child on this terminal and forwards signals.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from './project.mjs';

/** @type {NodeJS.Signals[]} */
const FORWARDED = ['SIGTERM', 'SIGHUP'];

/**
 * @param {string[]} args
 * @returns {Promise<number>} its exit code; 128 + the signal's number when a signal ended it
 */
export function runExecutable(args) {
  const executable = join(projectRoot, 'infra', 'bin', 'qianmo.mjs');
  const child = spawn(process.execPath, [executable, ...args], { stdio: 'inherit' });
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  // The terminal sends Ctrl-C directly to the child, which is in the same group. This process only
  // must not end before it.
  process.on('SIGINT', () => undefined);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0));
    });
  });
}
