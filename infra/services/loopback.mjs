// Free ports on the loopback interface, and waiting for a server that is coming up on one.
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;
const ANSWER_TIMEOUT_MS = 1_000;

/**
 * A port that was free a moment ago. Another process may take it before it is used; in that case,
 * try again.
 * @returns {Promise<number>}
 */
export function findFreePort() {
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
 * @param {import('./watched-process.mjs').WatchedProcess} server
 * @param {() => Promise<boolean>} isReady
 * @param {number} timeoutMs
 * @returns {Promise<string>} empty when ready, otherwise the failure
 */
export async function waitUntilReady(server, isReady, timeoutMs) {
  const deadlineMs = Date.now() + timeoutMs;
  while (server.isRunning() && Date.now() < deadlineMs) {
    if (await isReady()) return '';
    await delay(POLL_MS);
  }
  if (!server.isRunning()) return `it ended at once (${await server.ended})`;
  return `it did not answer within ${timeoutMs / 1000} s`;
}
