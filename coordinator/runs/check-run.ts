/** Checks the requirements of a run: its queue, its task store, its output and the free disk space. */

import { statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RunConfig } from '../../shared/config/run-config.js';
import { counted } from '../../shared/names/counted.js';
import { checkRedis, connectRedis } from '../../shared/queue/redis-connection.js';
import { probeConditionalWrites } from '../../shared/storage/object-store.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import type { RunContext } from './run-context.js';
import { objectStoreOf } from './run-files.js';
import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';

const DISK_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;

/** @param redisUrl `embedded`, or the address of a server */
export async function checkRun(
  config: RunConfig,
  redisUrl: string,
  context: Pick<RunContext, 'environment'>,
): Promise<CheckResult[]> {
  const method = config.auto === undefined ? config.method.kind : 'auto';
  return [
    { requirement: 'config', ...ok(`run ${config.run}, method ${method}`) },
    await checked('Redis', () => checkQueue(redisUrl, context)),
    await checked('task store', () => checkStore(config)),
    await checked('output', () => checkOutput(config)),
    await checked('disk', () => checkDisk(config.output)),
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

async function checkStore(config: RunConfig): Promise<Finding> {
  const store = await openTaskStore(config.data.store, {
    objectStoreOf: (address) => objectStoreOf(config, address),
  });
  await store.close();
  const { taskCount, rowCount } = store.manifest;
  return ok(`${config.data.store}: ${counted(taskCount, 'task')}, ${counted(rowCount, 'row')}`);
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

export interface CheckResult {
  readonly requirement: string;
  /** A warning only makes the run slower; a problem prevents it. */
  readonly state: 'ok' | 'warning' | 'problem';
  readonly detail: string;
  readonly cure: string | null;
}

export type Finding = Omit<CheckResult, 'requirement'>;

export const ok = (detail: string): Finding => ({ state: 'ok', detail, cure: null });

/** A failure that the check meets is its result. Only a bug is thrown. */
export async function checked<Found extends Finding>(
  requirement: string,
  find: () => Promise<Found>,
): Promise<(Found | Finding) & { readonly requirement: string }> {
  try {
    return { requirement, ...(await find()) };
  } catch (error) {
    const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
    if (failure === null) throw error;
    const { what, where, found, cure } = failure.report;
    const detail = [what, where, found].filter((part) => part !== undefined).join('; ');
    return { requirement, state: 'problem', detail, cure: cure ?? null };
  }
}
