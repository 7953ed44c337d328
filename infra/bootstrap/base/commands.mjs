// Runs other programs: finds them on PATH, limits their run time, and keeps their output for
// messages.
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { endWithThisProcess } from './watchdog.mjs';

const OUTPUT_CHARACTERS_MAX = 64 * 1024;

/**
 * @param {string} name
 * @returns {string | undefined} the first executable file with that name on PATH
 */
export function findOnPath(name) {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

/**
 * @typedef {object} CommandOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [environment] added to this process's own
 * @property {number} [timeoutMs] the command is killed after this time; 10 minutes by default
 */

/**
 * Runs a command to its end and never throws.
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 * @returns {Promise<{ ok: boolean, output: string, problem: string }>} output: stdout and stderr
 *   combined, the last 64 Ki characters; problem: one line for the user, empty when ok
 */
export function runCommand(command, args, options = {}) {
  const timeoutMs = options.timeoutMs ?? 600_000;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    let timedOut = false;
    const killGroup = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        child.kill('SIGKILL');
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup();
    }, timeoutMs);
    process.once('exit', killGroup);
    const callOff = child.pid === undefined ? undefined : endWithThisProcess(-child.pid, 'KILL');
    /** @param {Buffer} chunk */
    const keep = (chunk) => {
      output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARACTERS_MAX);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    /** @param {string} problem */
    const finish = (problem) => {
      clearTimeout(timer);
      callOff?.();
      process.removeListener('exit', killGroup);
      resolve({ ok: problem === '', output, problem });
    };
    child.once('error', (error) => finish(`${command}: ${error.message}`));
    child.once('close', (code, signal) => {
      if (code === 0) finish('');
      else if (timedOut) finish(`${command}: not finished after ${timeoutMs / 1000} s`);
      else
        finish(`${command}: ${lastTellingLine(output) ?? `ended by ${signal ?? `code ${code}`}`}`);
    });
  });
}

/**
 * The line of a failed command's output that most likely states the cause.
 * @param {string} output
 * @returns {string | undefined}
 */
export function lastTellingLine(output) {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(npm (error|warn) (A complete log|Log files))/i.test(line));
  const telling = lines.filter((line) =>
    /error|cannot|failed|not found|no such|unable/i.test(line),
  );
  return (telling.at(-1) ?? lines.at(-1))?.slice(0, 300);
}
