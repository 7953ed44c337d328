/** The machine of this process: its compute processes, its local workers and its embedded Redis. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbeddedRedis } from '#bootstrap/embedded-redis.mjs';
import type { Machine, RunContext } from '../../coordinator/runs/run-context.js';
import type { ComputeConfig, DeviceDemand } from '../../shared/config/compute-config.js';
import { pluginArguments } from '../../shared/plugins/load-plugins.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import {
  describeDevice,
  createComputeProcess,
  type ComputeExecutor,
} from '../../worker/process/compute-process.js';
import {
  computeEnvironment,
  countUsableGpus,
  gpuIndexOfWorker,
} from '../../worker/compute/device/gpus.js';
import { isInterruption } from '../../shared/base/errors.js';

const WORKER_ENTRY = fileURLToPath(new URL('../cli/local-worker.js', import.meta.url));
/** Executors keep their stores and graphs, so they grow after they start. */
const FREE_MEMORY_SHARE_MAX = 0.5;
const EXECUTOR_BYTE_COUNT_MIN = 512 * 1024 * 1024;

/** What a local worker is told; the address of Redis is a secret. */
export interface LocalWork extends Required<StartDemand> {
  readonly prefix: string;
  /** The places that jobs name. */
  readonly stores: readonly string[];
  readonly endpoints: readonly string[];
}

export const localMachine: Machine = {
  startExecutors: async (demand, count, context) => {
    const gpuCount = count === 1 ? 0 : await countUsableGpus(context.environment);
    const starts = Array.from({ length: count }, (_, index) =>
      startExecutor(demand, gpuIndexOfWorker(index, gpuCount), context),
    );
    return Promise.all(starts);
  },

  startMoreExecutors: async (demand, { started, count }, context) => {
    const [first] = started;
    const isOnGpu = first?.foundDevice?.()?.device === 'gpu';
    const gpuCount = isOnGpu ? await countUsableGpus(context.environment) : 0;
    const room = isOnGpu
      ? gpuCount - started.length
      : freeExecutorCount(first?.residentByteCount?.() ?? 0);
    const starts = Array.from({ length: Math.max(0, Math.min(count, room)) }, (_, index) =>
      startExecutor(demand, gpuIndexOfWorker(started.length + index, gpuCount), context),
    );
    const settled = await Promise.allSettled(starts);
    return settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  },

  openCompute: async (context, demand) => {
    const { localCompute } = await import('./local-compute.js');
    return localCompute(context, demand);
  },

  openServedScorer: async (bundle, where) => {
    const { openServedScorer } = await import('./served-scorer.js');
    return openServedScorer(bundle, where);
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
    const { redisUrl, prefix, device, portable, environment, stores } = request;
    const work = {
      ...{ prefix, device, portable, stores: stores.map(({ address }) => address) },
      endpoints: stores.flatMap(({ endpoint }) => endpoint ?? []),
    };
    const gpuCount = await countUsableGpus(environment);
    return {
      path: process.execPath,
      argsOf: (index) => {
        const request: LocalWork = { ...work, gpuIndex: gpuIndexOfWorker(index, gpuCount) };
        return [WORKER_ENTRY, JSON.stringify(request), ...pluginArguments()];
      },
      // Arguments are visible to every user of the machine, and the address may hold a password.
      env: { ...environment, QIANMO_REDIS_URL: redisUrl },
    };
  },

  startRedis: async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'qianmo-redis-'));
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
};

interface KeptMachine {
  readonly machine: Machine;
  /** Ends the executors. */
  close(): Promise<void>;
}

/**
 * A machine whose executors stay for the next call, so that calls one after the other start none again. All calls must
 * make the same demand.
 *
 * @param sink takes the events of the executors
 */
export function keepExecutors(sink: RunEventSink): KeptMachine {
  const kept: JobExecutor[] = [];
  const closers: (() => Promise<void>)[] = [];
  const lasting = (context: RunContext): RunContext => ({
    ...{ ...context, sink },
    onClose: (close) => void closers.push(close),
  });
  return {
    machine: {
      ...localMachine,
      startExecutors: async (demand, count, context) => {
        const missing = count - kept.length;
        if (missing > 0)
          kept.push(...(await localMachine.startExecutors(demand, missing, lasting(context))));
        return [...kept];
      },
      startMoreExecutors: async (demand, wanted, context) => {
        const more = await localMachine.startMoreExecutors(demand, wanted, lasting(context));
        kept.push(...more);
        return more;
      },
    },
    close: async () => {
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
}

/** Compute processes of this process, whatever call they belong to: calls share the cores. */
let executorCount = 0;

function startExecutor(
  demand: Pick<ComputeConfig, 'device' | 'portable'>,
  gpuIndex: number | undefined,
  context: RunContext,
): Promise<JobExecutor> {
  executorCount += 1;
  context.onClose(() => {
    executorCount -= 1;
    return Promise.resolve();
  });
  // More than ten listeners to one signal would be reported as a leak.
  const signal = AbortSignal.any([context.signal]);
  return startComputeProcess({ ...demand, gpuIndex }, { ...context, signal });
}

/** @param byteCount the memory that one of them takes, as far as it is known */
function freeExecutorCount(byteCount: number): number {
  const inMemory =
    (freemem() * FREE_MEMORY_SHARE_MAX) / Math.max(byteCount, EXECUTOR_BYTE_COUNT_MIN);
  return Math.min(availableParallelism() - executorCount, Math.floor(inMemory));
}

interface StartDemand {
  readonly device: DeviceDemand;
  /** True if the first jobs are portable; each job says so itself. */
  readonly portable?: boolean;
  readonly gpuIndex?: number | undefined;
}

/** @throws QianmoError `environment` if the demanded device is not available. */
export async function startComputeProcess(
  { device, portable = false, gpuIndex }: StartDemand,
  { clock, sink, environment, signal, onClose }: RunContext,
): Promise<ComputeExecutor> {
  const executor = createComputeProcess({
    clock,
    device,
    portable,
    environment: computeEnvironment(environment, device, gpuIndex),
    onEvent: sink,
  });
  onClose(() => executor.close());
  await executor.start(signal).catch((error: unknown) => {
    // The reason of the signal says who stopped the work.
    throw signal.aborted && isInterruption(error) ? signal.reason : error;
  });
  return executor;
}
