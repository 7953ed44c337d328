// A dedicated Redis server on a free loopback port, durable enough to be killed and restarted:
// append-only file fsynced every second, never evicting. Ends with this process.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { askOnce, findFreePort, waitUntilReady } from './loopback.mjs';
import { findRedisServer, obtainRedisServer } from './redis-binary.mjs';
import { spawnWatched } from './watched-process.mjs';

export { findRedisServer, obtainRedisServer };

const START_TIMEOUT_MS = 30_000;
const PORT_ATTEMPTS_MAX = 5;

/**
 * @typedef {import('./embedded-redis.d.mts').EmbeddedRedis} EmbeddedRedis
 * @typedef {import('./embedded-redis.d.mts').EmbeddedRedisOptions} EmbeddedRedisOptions
 */

/**
 * @param {EmbeddedRedisOptions} options
 * @returns {Promise<EmbeddedRedis>}
 */
export async function startEmbeddedRedis(options) {
  const serverPath = options.serverPath ?? (await obtainServerPath());
  mkdirSync(options.dataDir, { recursive: true });
  const started = await startOnSomePort(serverPath, options);
  const port = started.port;
  let server = started.server;
  return {
    get url() {
      return `redis://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    get pid() {
      return server.pid;
    },
    isRunning: () => server.isRunning(),
    stop: () => server.end('SIGTERM'),
    kill: () => server.end('SIGKILL'),
    restart: async () => {
      await server.end('SIGTERM');
      server = await startOnPort(serverPath, options.dataDir, port);
    },
  };
}

async function obtainServerPath() {
  const obtained = await obtainRedisServer();
  if (obtained.server) return obtained.server.path;
  throw new Error(`no Redis server: ${obtained.problem}. Cure: ${obtained.cure.join(' ')}`);
}

/**
 * @param {string} serverPath
 * @param {EmbeddedRedisOptions} options
 */
async function startOnSomePort(serverPath, options) {
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await findFreePort());
    try {
      return { port, server: await startOnPort(serverPath, options.dataDir, port) };
    } catch (error) {
      if (options.port !== undefined || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

/**
 * @param {string} serverPath
 * @param {string} dataDir
 * @param {number} port
 */
async function startOnPort(serverPath, dataDir, port) {
  const logPath = join(dataDir, 'redis.log');
  const server = spawnWatched(serverPath, serverArguments(dataDir, port), { logPath });
  const ownPid = new RegExp(`process_id:${server.pid}\\r`);
  // Another server may use the port and answer PING; the process id distinguishes it from ours.
  const isReady = async () =>
    (await askOnce(port, 'PING\r\n')).startsWith('+PONG') &&
    ownPid.test(await askOnce(port, 'INFO server\r\n'));
  const failure = await waitUntilReady(server, isReady, START_TIMEOUT_MS);
  if (failure === '') return server;
  await server.end('SIGKILL');
  throw new Error(
    `Redis server ${serverPath} did not start on 127.0.0.1:${port}: ${failure}. ${lastLogLine(logPath)}`,
  );
}

/**
 * @param {string} dataDir
 * @param {number} port
 * @returns {string[]}
 */
function serverArguments(dataDir, port) {
  const settings = {
    bind: '127.0.0.1',
    port: String(port),
    'protected-mode': 'yes',
    daemonize: 'no',
    dir: dataDir,
    appendonly: 'yes',
    appendfsync: 'everysec',
    save: '',
    'maxmemory-policy': 'noeviction',
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

/** @param {string} logPath */
function lastLogLine(logPath) {
  try {
    return `Last words in ${logPath}: ${readFileSync(logPath, 'utf8').trim().split('\n').at(-1)}`;
  } catch {
    return '';
  }
}
