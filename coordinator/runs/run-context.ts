/**
 * The surroundings of one call of the library: its clock, environment, events, signal, and the
 * machine that computes. Whatever is started in a context is stopped when the context closes.
 */

import type { ComputeConfig, DeviceDemand } from '../../shared/config/compute-config.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import type { LocalCompute } from '../export/unknown-block.js';
import type { RunCaller } from '../plan/prepared-run.js';
import type { ServedScorer } from '../scoring/served-losses.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';

/** Environment variables. They are handed in, since only entry files read those of the process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The variables of the process itself, which libraries read when they load. */
type OwnEnvironment = Record<string, string | undefined>;

export interface RunContext extends RunCaller {
  readonly environment: Environment;
  /** The variables of this process, where the call may set what libraries read; absent where it may not. */
  readonly ownEnvironment?: OwnEnvironment | undefined;
  readonly machine: Machine;
  /** The version of the package; absent where nobody asks. */
  readonly version?: () => string;
  /** Folder where this call finds logs that an earlier one has fetched or decompressed; absent where it does so for itself. */
  readonly logsFolder?: string;
  /** Files of task stores that this call has checked; absent where it opens one store once. */
  readonly checkedFiles?: Set<string>;
  /** Registers a closer. Closers run in reverse order when the call ends, however it ends. */
  readonly onClose: (close: () => Promise<void>) => void;
}

/** A task store, or the place of large blobs, and the S3 endpoint that it is reached by. */
interface StorePlace {
  readonly address: string;
  readonly endpoint: string | undefined;
}

/** How to start one of several local workers. */
export interface WorkerCommand {
  readonly path: string;
  /** The arguments of a worker, counted from 0; the same at every restart. */
  readonly argsOf: (index: number) => readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The queue that local workers take jobs from, and the device they must compute on. */
interface LocalWorkersRequest {
  readonly redisUrl: string;
  readonly prefix: string;
  readonly device: DeviceDemand;
  readonly portable: boolean;
  readonly environment: Environment;
  /** The places that jobs name. Workers open no other. */
  readonly stores: readonly StorePlace[];
}

type ComputeDemand = Pick<ComputeConfig, 'device' | 'portable'>;

interface MoreExecutors {
  /** The executors that compute already. */
  readonly started: readonly JobExecutor[];
  /** The number that is wanted in addition. */
  readonly count: number;
}

interface StartedRedis {
  readonly url: string;
  /** A file with the address and its password, which only this user can read. */
  readonly addressFile: string;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
}

/**
 * The parts of this machine that a run computes with. The composition root hands them in, because
 * coordinator code imports neither workers nor embedded services.
 */
export interface Machine {
  /**
   * Starts processes that compute jobs without a queue. They end when the context closes.
   *
   * @throws QianmoError `environment` if the demanded device is not available.
   */
  startExecutors(
    demand: ComputeDemand,
    count: number,
    context: RunContext,
  ): Promise<readonly JobExecutor[]>;
  /**
   * Starts more of them, as far as this machine has free cores and memory, or GPUs. One that does not start is left
   * out.
   */
  startMoreExecutors(
    demand: ComputeDemand,
    wanted: MoreExecutors,
    context: RunContext,
  ): Promise<readonly JobExecutor[]>;
  /**
   * Loads what scores rows in this process. It closes with the context.
   *
   * @param demand if this process may compute jobs under it, as a process of `startExecutors` would.
   */
  openCompute(context: RunContext, demand?: ComputeDemand): Promise<LocalCompute>;
  /**
   * Opens what scores logged rows as a ranking server does.
   *
   * @param where the bundle is, for messages
   * @throws QianmoError `data` if the bundle fails its self-check.
   */
  openServedScorer(
    bundle: { readonly digest: string; readonly loaded: LoadedBundle },
    where: string,
  ): Promise<ServedScorer>;
  /** @throws QianmoError `environment` if the demanded device is not available. */
  requireDevice(device: DeviceDemand, context: RunContext): Promise<void>;
  /** How to start one of several local workers. */
  workerCommand(request: LocalWorkersRequest): Promise<WorkerCommand>;
  /** Starts a Redis server with a password, for this user alone. */
  startRedis(): Promise<StartedRedis>;
}
