/** The machine of this process: its compute processes, its local workers and its embedded Redis. */

import { accessSync, constants } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findRedisServer, startEmbeddedRedis } from '#services/embedded-redis.mjs';
import { openOwnedFolder } from '#services/owned-folder.mjs';
import type { WorkerCrew } from '../../coordinator/workers/worker-supervisor.js';
import type { Machine } from '../../coordinator/runs/call/run-context.js';
import { pluginArguments } from '../../shared/plugins/load-plugins.js';
import { describeDevice } from '../../worker/process/compute-process.js';
import { listGpus } from '../../worker/compute/device/list-gpus.js';
import {
  computeEnvironment,
  countUsableGpus,
  gpuIndexOfWorker,
} from '../../worker/compute/device/visible-gpus.js';
import {
  firstProcessCount,
  firstWorkerCount,
  takeWorkerAhead,
  WORKER_ENTRY,
  WORKERS_PER_PROCESS,
} from './ahead/started-ahead.js';
import { startedComputeProcess } from './started-compute-process.js';

/** A file system in memory, which Linux offers to all programs. */
const MEMORY_FOLDER = '/dev/shm';

export const localMachine: Machine = {
  startExecutors: async (demand, count, context) => {
    const gpuCount = count === 1 ? 0 : await gpuCountHere(context.environment);
    const starts = Array.from({ length: count }, (_, index) => {
      const gpuIndex = gpuIndexOfWorker(index, gpuCount);
      // More than ten listeners to one signal would be reported as a leak.
      const signal = AbortSignal.any([context.signal]);
      return startedComputeProcess({ ...demand, gpuIndex }, { ...context, signal });
    });
    return Promise.all(starts);
  },

  openCompute: async (context, demand) => {
    const { localCompute } = await import('./local-compute.js');
    return localCompute(context, demand);
  },

  requireDevice: async (device, { clock, environment }) => {
    if (device === 'auto') return;
    await describeDevice({
      clock,
      device,
      environment: computeEnvironment(environment, device, undefined),
    });
  },

  workerCommand: async (request) => {
    const { redisUrl, prefix, device, portable, environment, stores, blobFolder } = request;
    const { count: workerCount, areBusy } = request;
    const args = ['--prefix', prefix, '--device', device];
    args.push(...(portable ? ['--portable'] : []), ...pluginArguments());
    for (const { address, endpoint } of stores) {
      args.push('--store-allow', address);
      if (endpoint !== undefined) args.push('--endpoint-allow', endpoint);
    }
    if (blobFolder !== null) args.push('--blob-folder', blobFolder);
    const gpuCount = await gpuCountHere(environment);
    // A process has one GPU, for all that it computes.
    const isShared = gpuCount === 0 && areBusy && workerCount > firstWorkerCount();
    const argsOf = ({ firstIndex, count }: WorkerCrew): readonly string[] => {
      const gpuIndex = gpuIndexOfWorker(firstIndex, gpuCount);
      if (gpuIndex !== undefined) return [...args, '--gpu-index', String(gpuIndex)];
      return [...args, '--count', String(count), '--first-count', String(firstWorkerCount())];
    };
    return {
      path: process.execPath,
      workersPerProcess: isShared ? WORKERS_PER_PROCESS : 1,
      argsOf: (crew) => [WORKER_ENTRY, ...argsOf(crew)],
      startedAhead: (crew) => takeWorkerAhead(argsOf(crew), redisUrl, environment),
      firstCount: isShared ? firstProcessCount() : firstWorkerCount(),
      // Arguments are visible to every user of the machine, and the address may hold a password.
      env: { ...environment, QIANMO_REDIS_URL: redisUrl },
    };
  },

  findRedis: async () => (await findRedisServer())?.version ?? null,

  startRedis: async () => {
    const dataDir = openOwnedFolder('qianmo-redis');
    const remove = (): Promise<void> => rm(dataDir, { recursive: true, force: true });
    try {
      // Nobody starts it again: it ends with this process, and its data too.
      const server = await startEmbeddedRedis({ dataDir, isDurable: false });
      const addressFile = join(dataDir, 'address');
      await writeFile(addressFile, `${server.url}\n`, { mode: 0o600 });
      const stop = (): Promise<void> => server.stop().finally(remove);
      return { url: server.url, addressFile, stop };
    } catch (error) {
      await remove();
      throw error;
    }
  },

  openBlobFolder: () => {
    try {
      accessSync(MEMORY_FOLDER, constants.W_OK);
      const path = openOwnedFolder('qianmo-blobs', MEMORY_FOLDER);
      return { path, remove: () => rm(path, { recursive: true, force: true }) };
    } catch {
      return null;
    }
  },
};

async function gpuCountHere(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  return countUsableGpus(await listGpus(), environment['CUDA_VISIBLE_DEVICES']);
}
