// A server process that does not outlive this one, however this one ends.
//
// The server is in a session of its own, so that Ctrl-C on a terminal reaches only this process and
// a clean stop can still use the server. Beside it waits a shell on a pipe: when the pipe closes,
// because this process ended even by SIGKILL, the shell ends the server.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

const WATCHDOG_SCRIPT = `cat >/dev/null
kill -TERM "$1" || exit
tenths=0
while [ $tenths -lt 50 ] && kill -0 "$1"; do sleep 0.1; tenths=$((tenths + 1)); done
kill -KILL "$1"`;

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
 * @param {{ logPath: string, environment?: Record<string, string> }} options logPath: takes its output
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
  const watchdog = child.pid === undefined ? undefined : watch(child.pid);
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
      watchdog?.kill('SIGKILL');
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

/** @param {number} pid */
function watch(pid) {
  const watchdog = spawn('/bin/sh', ['-c', WATCHDOG_SCRIPT, 'qianmo-watchdog', String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watchdog.on('error', () => undefined);
  watchdog.stdin.on('error', () => undefined);
  watchdog.unref();
  /** @type {import('node:net').Socket} */ (watchdog.stdin).unref();
  return watchdog;
}
