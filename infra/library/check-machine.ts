/** Checks the requirements of any run on this machine: Node, native TensorFlow and free memory. */

import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import type { Environment, RunContext } from '../../coordinator/runs/run-context.js';
import { systemClock } from '../../shared/base/clock.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import { describeDevice } from '../../worker/process/compute-process.js';
import { formatDeviceLine, type DeviceReport } from '../../shared/events/device-report.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import { NODE_CURE, SUPPORTED_NODE, isNodeSupported } from '../bootstrap/base.mjs';
import { configOf } from '../../coordinator/runs/places.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';
import type { CheckedLogs } from '../../coordinator/prepare/check-logs.js';
import { statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RunConfig } from '../../shared/config/run-config.js';
import { counted } from '../../shared/names/counted.js';
import { checkRedis, connectRedis } from '../../shared/queue/redis-connection.js';
import { probeConditionalWrites } from '../../shared/storage/object-store.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { isNoStore } from '../../shared/tasks/store-folder.js';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import { objectStoreOf } from '../../coordinator/runs/run-files.js';
import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';

export interface MachineCheckResult extends CheckResult {
  /** The whole report, in the result of the check that starts a compute process. */
  readonly device?: DeviceReport;
  /** The tasks and rejects of the logs; only in the result of the check that reads them. */
  readonly logs?: CheckedLogs;
}

/** The section `compute` of a run; of a machine alone, its defaults. */
type MachineDemand = Pick<ComputeConfig, 'device' | 'portable' | 'fingerprint'>;

const MEMORY_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;

async function checkMachine(
  demand: MachineDemand,
  environment: Environment,
): Promise<MachineCheckResult[]> {
  return Promise.all([
    check('Node', checkNode),
    check('native TensorFlow', () => checkTensorFlow(demand, environment)),
    check('memory', checkMemory),
  ]);
}

function checkNode(): Promise<Finding> {
  const { version } = process;
  const finding: Finding = isNodeSupported()
    ? ok(`${version}, ${availableParallelism()} cores`)
    : { state: 'problem', detail: `${version}; ${SUPPORTED_NODE} is needed`, cure: NODE_CURE };
  return Promise.resolve(finding);
}

async function checkTensorFlow(
  { device: demand, portable, fingerprint }: MachineDemand,
  environment: Environment,
): Promise<Finding & { device: DeviceReport }> {
  const device = await describeDevice({
    clock: systemClock,
    device: demand,
    portable,
    environment: computeEnvironment(environment, demand, undefined),
  });
  const detail = formatDeviceLine(device);
  if (fingerprint !== undefined && fingerprint !== device.fingerprint)
    return {
      state: 'problem',
      detail: `${detail}; the config demands ${fingerprint}, so this machine would refuse its jobs`,
      cure: 'use a machine of that kind, or change compute.fingerprint',
      device,
    };
  if (!device.isNative)
    return {
      state: 'warning',
      detail: `${detail}: jobs run, but many times slower`,
      cure: 'run qianmo setup, which installs it or says why it cannot',
      device,
    };
  if (device.gpu === null || device.device === 'gpu' || demand === 'cpu')
    return { ...ok(detail), device };
  return {
    state: 'warning',
    detail: `${detail}; the GPU (${device.gpu.name}) is not used`,
    cure: 'run qianmo setup --gpu to install TensorFlow with CUDA, then qianmo check --device gpu',
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

export async function checkRequirements(
  request: RequestOf<'check'>,
  context: RunContext,
): Promise<readonly MachineCheckResult[]> {
  const { environment } = context;
  const config =
    request.config === undefined ? null : await configOf(RUN_CONFIG, request.config, environment);
  const compute = config?.compute ?? { device: 'auto', portable: false };
  const device = request.device === 'auto' ? compute.device : request.device;
  const results = await checkMachine({ ...compute, device }, environment);
  if (config === null) return results;
  return [...results, ...(await checkRun(config, request.redis ?? config.queue.redisUrl, context))];
}

const DISK_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;

/** @param redisUrl `embedded`, or the address of a server */
async function checkRun(
  config: RunConfig,
  redisUrl: string,
  context: RunContext,
): Promise<MachineCheckResult[]> {
  const method = config.auto === undefined ? config.method.kind : 'auto';
  return [
    { requirement: 'config', ...ok(`run ${config.run}, method ${method}`) },
    await check('Redis', () => checkQueue(redisUrl, context)),
    ...(await checkData(config, context)),
    await check('output', () => checkOutput(config)),
    await check('disk', () => checkDisk(config.output)),
  ];
}

async function checkQueue(
  redisUrl: string,
  { environment }: Pick<RunContext, 'environment'>,
): Promise<Finding> {
  if (redisUrl === 'embedded') return ok('not needed: jobs are computed on this machine');
  const tls = await tlsFilesOf(environment);
  const connection = await connectRedis({ url: redisUrl, role: 'producer', tls });
  try {
    const facts = await checkRedis(connection);
    if (facts === null)
      return {
        state: 'warning',
        detail: 'it answers, but its user may not ask for INFO',
        cure: 'make sure that maxmemory-policy is noeviction and the append-only file is on',
      };
    const { version, maxmemoryPolicy, aof } = facts;
    if (aof) return ok(`${version}, ${maxmemoryPolicy}, append-only file on`);
    return {
      state: 'warning',
      detail: `${version}, ${maxmemoryPolicy}, append-only file off`,
      cure: 'a restart of Redis loses unfinished jobs: CONFIG SET appendonly yes',
    };
  } finally {
    connection.disconnect();
  }
}

/** The task store, and the logs until there is one. */
async function checkData(config: RunConfig, context: RunContext): Promise<MachineCheckResult[]> {
  const store = await check('task store', () => checkStore(config));
  if (store.state !== 'warning') return [store];
  return [await check('logs', () => checkFirstRows(config, context)), store];
}

async function checkStore(config: RunConfig): Promise<Finding> {
  const opened = await openTaskStore(config.data.store, {
    objectStoreOf: (address) => objectStoreOf(config, address),
  }).catch((error: unknown) => {
    if (isNoStore(error)) return null;
    throw error;
  });
  if (opened === null)
    return {
      state: 'warning',
      detail: `there is none at ${config.data.store} yet`,
      cure: 'write it with qianmo prepare; other commands need it',
    };
  await opened.close();
  const { taskCount, rowCount } = opened.manifest;
  return ok(`${config.data.store}: ${counted(taskCount, 'task')}, ${counted(rowCount, 'row')}`);
}

async function checkFirstRows(
  config: RunConfig,
  { signal }: RunContext,
): Promise<Finding & { logs: CheckedLogs }> {
  const { checkLogs } = await import('../../coordinator/prepare/check-logs.js');
  const logs = await checkLogs(config, {
    signal,
    // Progress and remarks are in the result.
    sink: () => undefined,
    objectStoreOf: (address) => objectStoreOf(config, address),
    temporaryFolder: tmpdir(),
  });
  const rows = counted(logs.rowCount, 'row');
  const detail = `${logs.isWhole ? `all ${rows}` : `a sample, the first ${rows},`} of ${logs.files.join(', ')}`;
  const hasTasks = logs.division === null || logs.division.taskCountBySplit.train > 0;
  if (hasTasks && logs.rejected.length === 0) return { ...ok(detail), logs };
  const cure = hasTasks
    ? 'correct the logs or the fields that read them, if too many rows are rejected'
    : 'prepare needs an adgroup to train on: name coarser task columns, or look whether later rows have one';
  return { state: 'warning', detail, cure, logs };
}

async function checkOutput(config: RunConfig): Promise<Finding> {
  const store = objectStoreOf(config, config.output);
  if (await probeConditionalWrites(store)) return ok(`${store.address}, conditional writes work`);
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

interface CheckResult {
  readonly requirement: string;
  /** A run goes on after a warning; a problem prevents it. */
  readonly state: 'ok' | 'warning' | 'problem';
  readonly detail: string;
  readonly cure: string | null;
}

type Finding = Omit<CheckResult, 'requirement'>;

const ok = (detail: string): Finding => ({ state: 'ok', detail, cure: null });

/** A failure that the check meets is its result. Only a bug is thrown. */
async function check<Found extends Finding>(
  requirement: string,
  find: () => Promise<Found>,
): Promise<(Found | Finding) & { readonly requirement: string }> {
  try {
    return { requirement, ...(await find()) };
  } catch (error) {
    const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
    if (failure === null) throw error;
    const { what, where, expected, found, cure } = failure.report;
    const told = Object.entries({ expected, found }).flatMap(([label, part]) =>
      part === undefined ? [] : [`${label} ${part}`],
    );
    const detail = [what, ...(where === undefined ? [] : [where]), ...told].join('; ');
    return { requirement, state: 'problem', detail, cure: cure ?? null };
  }
}
