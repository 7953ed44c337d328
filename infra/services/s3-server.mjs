// A dedicated S3-compatible server on a free loopback port, for tests. Ends with this process.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { askOnce, findFreePort, waitUntilReady } from './loopback.mjs';
import { findS3Server, obtainS3Server } from './s3-binary.mjs';
import { spawnWatched } from './watched-process.mjs';

export { findS3Server, obtainS3Server };

const START_TIMEOUT_MS = 60_000;
const PORT_ATTEMPTS_MAX = 5;

/** @typedef {import('./s3-server.d.mts').S3Server} S3Server */
/** @typedef {import('./s3-server.d.mts').S3ServerProgram} S3ServerProgram */

/**
 * @param {{ dataDir: string, program?: S3ServerProgram }} options
 * @returns {Promise<S3Server>}
 */
export async function startS3Server(options) {
  const program = options.program ?? findS3Server();
  if (!program) throw new Error('no S3 server program is installed: call obtainS3Server() first');
  const objectsFolder = join(options.dataDir, 'objects');
  mkdirSync(objectsFolder, { recursive: true });
  const logPath = join(options.dataDir, 's3-server.log');
  const accessKeyId = `qianmo-${randomBytes(6).toString('hex')}`;
  const secretAccessKey = randomBytes(20).toString('hex');
  let failure = '';
  for (let attempt = 1; attempt <= PORT_ATTEMPTS_MAX; attempt += 1) {
    const port = await findFreePort();
    const { args, environment } = commandLine(program, port, objectsFolder);
    const server = spawnWatched(program.command, args, {
      logPath,
      environment: {
        ...environment,
        ROOT_ACCESS_KEY: accessKeyId,
        ROOT_SECRET_KEY: secretAccessKey,
      },
    });
    const isReady = async () =>
      (await askOnce(port, 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n')).startsWith('HTTP/1.');
    failure = await waitUntilReady(server, isReady, START_TIMEOUT_MS);
    if (failure === '') {
      const endpoint = `http://127.0.0.1:${port}`;
      const stop = () => server.end('SIGTERM');
      return {
        kind: program.kind,
        endpoint,
        accessKeyId,
        secretAccessKey,
        region: 'us-east-1',
        stop,
      };
    }
    await server.end('SIGKILL');
  }
  throw new Error(
    `S3 server ${program.command} did not start: ${failure}. ${lastLogLine(logPath)}`,
  );
}

/**
 * @param {S3ServerProgram} program
 * @param {number} port
 * @param {string} objectsFolder
 * @returns {{ args: string[], environment: Record<string, string> }}
 */
function commandLine(program, port, objectsFolder) {
  if (program.kind === 'versitygw') {
    const args = ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', objectsFolder];
    return { args, environment: {} };
  }
  const args = ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)];
  return { args, environment: { PYTHONPATH: program.modulePath } };
}

/** @param {string} logPath */
function lastLogLine(logPath) {
  try {
    return `Last words in ${logPath}: ${readFileSync(logPath, 'utf8').trim().split('\n').at(-1)}`;
  } catch {
    return '';
  }
}
