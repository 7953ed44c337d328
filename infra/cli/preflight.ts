/**
 * The preflight: each requirement of a run as ok, a problem with its cure, or a warning for what
 * only makes it slower. A check never throws.
 */

import { statfs } from 'node:fs/promises';
import { availableParallelism, freemem } from 'node:os';
import { resolve } from 'node:path';
import { findRedisServer } from '#services/embedded-redis.mjs';
import { systemClock } from '../../shared/base/clock.js';
import type { DeviceDemand, RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { checkRedis, connectRedis } from '../../shared/queue/redis-connection.js';
import { probeConditionalWrites } from '../../shared/storage/conditional-writes.js';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import { describeDevice } from '../../worker/process/compute-process.js';
import { formatDeviceLine, type DeviceReport } from '../../shared/events/device-report.js';
import { computeEnvironment } from '../../worker/compute/device/visible-gpus.js';
import { NODE_CURE, SUPPORTED_NODE, isNodeSupported } from '../bootstrap/node-version.mjs';
import { objectStoreOf } from './run-files.js';

export interface CheckResult {
  readonly requirement: string;
  readonly state: 'ok' | 'warning' | 'problem';
  readonly detail: string;
  readonly cure: string | null;
  /** In full, of the check that starts a compute process. */
  readonly device?: DeviceReport;
}

type Environment = Readonly<Record<string, string | undefined>>;
type Finding = Omit<CheckResult, 'requirement'>;

const DISK_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;
const MEMORY_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;

const ok = (detail: string): Finding => ({ state: 'ok', detail, cure: null });

export async function checkMachine(
  demand: DeviceDemand,
  environment: Environment,
): Promise<CheckResult[]> {
  return Promise.all([
    check('Node', checkNode),
    check('native TensorFlow', () => checkTensorFlow(demand, environment)),
    check('memory', checkMemory),
  ]);
}

export async function checkRun(config: RunConfig, redisUrl: string): Promise<CheckResult[]> {
  return [
    { requirement: 'config', ...ok(`run ${config.run}, method ${config.method.kind}`) },
    await check('Redis', () => checkQueue(redisUrl)),
    await check('task store', () => checkStore(config)),
    await check('output', () => checkOutput(config)),
    await check('disk', () => checkDisk(config.output)),
  ];
}

async function check(requirement: string, find: () => Promise<Finding>): Promise<CheckResult> {
  try {
    return { requirement, ...(await find()) };
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    const { what, where, found, cure } = error.report;
    const detail = [what, where, found].filter((part) => part !== undefined).join('; ');
    return { requirement, state: 'problem', detail, cure: cure ?? null };
  }
}

function checkNode(): Promise<Finding> {
  const { version } = process;
  const finding: Finding = isNodeSupported()
    ? ok(`${version}, ${availableParallelism()} cores`)
    : { state: 'problem', detail: `${version}; ${SUPPORTED_NODE} is needed`, cure: NODE_CURE };
  return Promise.resolve(finding);
}

async function checkTensorFlow(demand: DeviceDemand, environment: Environment): Promise<Finding> {
  const device = await describeDevice({
    clock: systemClock,
    device: demand,
    environment: computeEnvironment(environment, demand, undefined),
  });
  const detail = formatDeviceLine(device);
  if (!device.isNative)
    return {
      state: 'warning',
      detail: `${detail}: the job runs, many times slower`,
      cure: 'qianmo setup installs it and says what is in the way',
      device,
    };
  if (device.gpu === null || device.device === 'gpu' || demand === 'cpu')
    return { ...ok(detail), device };
  return {
    state: 'warning',
    detail: `${detail}; the GPU (${device.gpu.name}) lies idle`,
    cure: 'qianmo setup --gpu installs TensorFlow with CUDA; qianmo check --device gpu says what is missing',
    device,
  };
}

function checkMemory(): Promise<Finding> {
  const freeGiB = freemem() / 2 ** 30;
  if (freemem() >= MEMORY_FREE_BYTE_COUNT_MIN)
    return Promise.resolve(ok(`${freeGiB.toFixed(1)} GiB free`));
  return Promise.resolve({
    state: 'warning',
    detail: `${freeGiB.toFixed(1)} GiB free`,
    cure: 'stop other programs, or lower data.memoryMiBMax and the number of workers',
  });
}

async function checkQueue(redisUrl: string): Promise<Finding> {
  if (redisUrl === 'embedded') {
    const server = await findRedisServer();
    return server === null
      ? {
          state: 'problem',
          detail: 'embedded, but no Redis server is on this machine',
          cure: 'qianmo setup obtains one; or set queue.redisUrl',
        }
      : ok(`embedded, ${server.version}`);
  }
  const connection = await connectRedis({ url: redisUrl, role: 'producer' });
  try {
    const { version, maxmemoryPolicy, aof } = await checkRedis(connection);
    if (aof) return ok(`${version}, ${maxmemoryPolicy}, append-only file on`);
    return {
      state: 'warning',
      detail: `${version}, ${maxmemoryPolicy}, append-only file off`,
      cure: 'a restart of Redis loses the jobs under way: CONFIG SET appendonly yes',
    };
  } finally {
    connection.disconnect();
  }
}

async function checkStore(config: RunConfig): Promise<Finding> {
  const store = await openTaskStore(config.data.store, {
    objectStoreOf: (address) => objectStoreOf(config, address),
  });
  await store.close();
  const { taskCount, rowCount } = store.manifest;
  return ok(`${config.data.store}: ${taskCount} tasks, ${rowCount} rows`);
}

async function checkOutput(config: RunConfig): Promise<Finding> {
  const store = objectStoreOf(config, config.output);
  if (await probeConditionalWrites(store))
    return ok(`${store.address}, conditional writes honoured`);
  return {
    state: 'warning',
    detail: `${store.address} ignores conditional writes`,
    cure: 'two coordinators of one run could overwrite each other: start one only, or use another store',
  };
}

async function checkDisk(output: string): Promise<Finding> {
  if (output.startsWith('s3://')) return ok('not used: the output is on S3');
  const folder = resolve(output.replace(/^file:\/\//, ''));
  const { bavail, bsize } = await statfs(await existingParentOf(folder));
  const freeByteCount = bavail * bsize;
  const detail = `${(freeByteCount / 2 ** 30).toFixed(1)} GiB free at ${output}`;
  if (freeByteCount >= DISK_FREE_BYTE_COUNT_MIN) return ok(detail);
  return { state: 'problem', detail, cure: 'free space, or choose another output' };
}

async function existingParentOf(folder: string): Promise<string> {
  try {
    await statfs(folder);
    return folder;
  } catch {
    return existingParentOf(resolve(folder, '..'));
  }
}
