// A server process on a free loopback port that does not outlive this one, however this one ends.
//
// The server is in a separate session, so that Ctrl-C on a terminal reaches only this process and a
// clean stop can still use the server. A watchdog ends it when this process is gone.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { endWithThisProcess } from './base.mjs';

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
function spawnWatched(command, args, options) {
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

const POLL_MS = 20;
const ANSWER_TIMEOUT_MS = 1_000;

/**
 * A port that was free a moment ago. Another process may take it before it is used; in that case,
 * try again.
 * @returns {Promise<number>}
 */
function findFreePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/**
 * Sends bytes to a loopback port and returns the answer as far as it is enough; by default, the first
 * bytes are.
 * @param {number} port
 * @param {string} request
 * @param {(answer: string) => boolean} [isEnough]
 * @returns {Promise<string>} empty when there is no such answer within a second
 */
export function askOnce(port, request, isEnough = () => true) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    /** @param {string} answer */
    const finish = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => finish(''));
    socket.once('error', () => finish(''));
    socket.once('close', () => finish(''));
    socket.once('connect', () => socket.write(request));
    socket.on('data', (bytes) => {
      received += bytes.toString('latin1');
      if (isEnough(received)) finish(received);
    });
  });
}

/**
 * Polls until `isReady` resolves to true, the process has ended, or the timeout has passed.
 * @param {WatchedProcess} server
 * @param {() => Promise<boolean>} isReady
 * @param {number} timeoutMs
 * @returns {Promise<string>} empty when ready, otherwise the failure
 */
async function waitUntilReady(server, isReady, timeoutMs) {
  const deadlineMs = Date.now() + timeoutMs;
  while (server.isRunning() && Date.now() < deadlineMs) {
    if (await isReady()) return '';
    await delay(POLL_MS);
  }
  if (!server.isRunning()) return `it ended at once (${await server.ended})`;
  return `it did not answer within ${timeoutMs / 1000} s`;
}

/** @param {string} logPath */
function lastLogLine(logPath) {
  try {
    return `Last words in ${logPath}: ${readFileSync(logPath, 'utf8').trim().split('\n').at(-1)}`;
  } catch {
    return '';
  }
}

const PORT_ATTEMPTS_MAX = 5;

/**
 * @typedef {object} ServerStart
 * @property {string} command
 * @property {(port: number) => string[]} argsOf
 * @property {Record<string, string>} [environment]
 * @property {string} logPath receives the output
 * @property {(port: number, pid: number) => Promise<boolean>} isReady
 * @property {number} timeoutMs
 * @property {number} [port] a free one by default
 */

/**
 * Starts a server and resolves when it answers. Throws, with the reason and its last log line, if it does not.
 * @param {ServerStart} start
 * @returns {Promise<{ port: number, server: WatchedProcess }>}
 */
export async function startServer(start) {
  const { command, argsOf, environment = {}, logPath, isReady, timeoutMs } = start;
  for (let attempt = 1; ; attempt += 1) {
    const port = start.port ?? (await findFreePort());
    const server = spawnWatched(command, argsOf(port), { logPath, environment });
    const failure = await waitUntilReady(server, () => isReady(port, server.pid), timeoutMs);
    if (failure === '') return { port, server };
    await server.end('SIGKILL');
    if (start.port !== undefined || attempt === PORT_ATTEMPTS_MAX)
      throw new Error(
        `${command} did not start on 127.0.0.1:${port}: ${failure}. ${lastLogLine(logPath)}`,
      );
  }
}
