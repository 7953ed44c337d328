// `npm run demo`: sets the checkout up and runs the demo with the given arguments; `npm run demo:serve` runs
// the one that serves.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { failWith, projectRoot } from './base.mjs';
import { setUp } from './setup.mjs';

/**
 * Runs the qianmo executable as a child on this terminal.
 * @param {string[]} args
 * @returns {Promise<number>} its exit code; 128 + the signal's number when a signal ended it
 */
function runExecutable(args) {
  const executable = join(projectRoot, 'infra', 'bin', 'qianmo.mjs');
  const child = spawn(process.execPath, [executable, ...args], { stdio: 'inherit' });
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGHUP']))
    process.on(signal, () => child.kill(signal));
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

try {
  await setUp();
  const args = process.argv.slice(2);
  const verb = args[0] === '--serve' ? ['demo-serve', ...args.slice(1)] : ['demo', ...args];
  process.exitCode = await runExecutable(verb);
} catch (error) {
  failWith(error);
}
