// A dedicated Redis server on a free loopback port, durable enough to be killed and restarted unless it is told
// otherwise: append-only file fsynced every second, never evicting. Other users of the machine reach the port, so it
// has a password, which the server reads from a file: arguments are visible to everybody. Ends with this
// process.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { askOnce, findFreePort, waitUntilReady } from './loopback.mjs';
import { findRedisServer, obtainRedisServer } from './redis-binary.mjs';
import { spawnWatched } from './watched-process.mjs';

export { findRedisServer, obtainRedisServer };

const START_TIMEOUT_MS = 30_000;
const PORT_ATTEMPTS_MAX = 5;
const PASSWORD_BYTE_COUNT = 24;

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
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const password = options.password ?? randomBytes(PASSWORD_BYTE_COUNT).toString('hex');
  const { dataDir, isDurable = true } = options;
  const place = { serverPath, dataDir, password, isDurable };
  const started = await startOnSomePort(place, options.port);
  const port = started.port;
  let server = started.server;
  return {
    get url() {
      return `redis://${password === '' ? '' : `:${password}@`}127.0.0.1:${port}`;
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
      server = await startOnPort(place, port);
    },
  };
}

async function obtainServerPath() {
  const obtained = await obtainRedisServer();
  if (obtained.server) return obtained.server.path;
  throw new Error(`no Redis server: ${obtained.problem}. Cure: ${obtained.cure.join(' ')}`);
}

/** @typedef {{ serverPath: string, dataDir: string, password: string, isDurable: boolean }} ServerPlace */

/**
 * @param {ServerPlace} place
 * @param {number} [wantedPort]
 */
async function startOnSomePort(place, wantedPort) {
  for (let attempt = 1; ; attempt += 1) {
    const port = wantedPort ?? (await findFreePort());
    try {
      return { port, server: await startOnPort(place, port) };
    } catch (error) {
      if (wantedPort !== undefined || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

/**
 * @param {ServerPlace} place
 * @param {number} port
 */
async function startOnPort(place, port) {
  const { serverPath, dataDir, password } = place;
  const logPath = join(dataDir, 'redis.log');
  const configPath = join(dataDir, 'redis.conf');
  writeFileSync(configPath, serverConfig(place, port), { mode: 0o600 });
  const server = spawnWatched(serverPath, [configPath], { logPath });
  const ownPid = new RegExp(`process_id:${server.pid}\\r`);
  const question = `${password === '' ? '' : `AUTH ${password}\r\n`}INFO server\r\n`;
  // Another server may use the port and answer; the process id distinguishes it from ours.
  const isReady = async () =>
    ownPid.test(await askOnce(port, question, (answer) => ownPid.test(answer)));
  const failure = await waitUntilReady(server, isReady, START_TIMEOUT_MS);
  if (failure === '') return server;
  await server.end('SIGKILL');
  throw new Error(
    `Redis server ${serverPath} did not start on 127.0.0.1:${port}: ${failure}. ${lastLogLine(logPath)}`,
  );
}

/**
 * @param {ServerPlace} place
 * @param {number} port
 * @returns {string}
 */
function serverConfig({ dataDir, password, isDurable }, port) {
  const settings = {
    bind: '127.0.0.1',
    port: String(port),
    'protected-mode': 'yes',
    daemonize: 'no',
    dir: dataDir,
    appendonly: isDurable ? 'yes' : 'no',
    appendfsync: 'everysec',
    save: '',
    // Four times a piece of a blob: no value can be larger than a reader expects by much.
    'proto-max-bulk-len': '16mb',
    'maxmemory-policy': 'noeviction',
    requirepass: password,
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${JSON.stringify(value)}\n`)
    .join('');
}

/** @param {string} logPath */
function lastLogLine(logPath) {
  try {
    return `Last words in ${logPath}: ${readFileSync(logPath, 'utf8').trim().split('\n').at(-1)}`;
  } catch {
    return '';
  }
}
