// A server process that does not outlive this one, however this one ends.
//
// The server is in a separate session, so that Ctrl-C on a terminal reaches only this process and a
// clean stop can still use the server. A watchdog ends it when this process is gone.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { endWithThisProcess } from '../bootstrap/base/watchdog.mjs';

/**
 * @typedef {object} WatchedProcess
 * @property {number} pid
 * @property {() => boolean} isRunning
 * @property {Promise<string>} ended resolves with a phrase that says how it ended
 * @property {(signal: NodeJS.Signals) => Promise<void>} end sends the signal and waits for the end;
 *   SIGKILL follows after 10 s
 */

const END_TIMEOUT_MS = 10_000;

/**
 * @param {string} command
 * @param {string[]} args
 * @param {{ logPath: string, environment?: Record<string, string> }} options logPath: receives the output
 * @returns {WatchedProcess}
 */
export function spawnWatched(command, args, options) {
  const log = openSync(options.logPath, 'a');
  const child = spawn(command, args, {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...process.env, ...options.environment },
  });
  closeSync(log);
  const callOff = child.pid === undefined ? undefined : endWithThisProcess(child.pid, 'TERM');
  child.unref();
  const killAtExit = () => void child.kill('SIGKILL');
  process.once('exit', killAtExit);
  let running = child.pid !== undefined;
  /** @type {Promise<string>} */
  const ended = new Promise((resolve) => {
    /** @param {string} how */
    const finish = (how) => {
      running = false;
      process.removeListener('exit', killAtExit);
      callOff?.();
      resolve(how);
    };
    child.once('error', (error) => finish(error.message));
    child.once('exit', (code, signal) => finish(signal ? `signal ${signal}` : `exit code ${code}`));
  });
  return {
    pid: child.pid ?? 0,
    isRunning: () => running,
    ended,
    end: async (signal) => {
      if (!running) return;
      child.ref();
      child.kill(signal);
      const hardKill = setTimeout(() => child.kill('SIGKILL'), END_TIMEOUT_MS);
      await ended;
      clearTimeout(hardKill);
    },
  };
}
