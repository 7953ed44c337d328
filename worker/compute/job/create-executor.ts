/**
 * A job executor in this process: loads a TensorFlow.js backend and computes jobs on it.
 * Computing blocks the thread; a process that talks to a queue uses `worker/process/compute-process.ts`.
 */

import { loadEngine, type Engine } from '../engine/load-engine.js';
import { nativeBackendOf, type BackendChoice } from '../engine/native-backend.js';
import { at } from '../../../shared/base/arrays.js';
import { printableText } from '../../../shared/base/printable-text.js';
import { cacheFolder } from '../../../shared/base/cache-folder.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import { ofThisMachine, QianmoError, errorOf } from '../../../shared/base/errors.js';
import type {
  GivenTasks,
  JobExecutor,
  JobInput,
  JobOutput,
} from '../../../shared/queue/job-executor.js';
import { loadedPlugins } from '../../../shared/plugins/load-plugins.js';
import {
  divisionOf,
  drawnRowsOf,
  idDropoutOf,
  type StoreReference,
  type Job,
  type JobWork,
} from '../../../shared/queue/protocol.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { storeForModel, type TaskStore } from '../../../shared/tasks/task-store.js';
import { openObjectStore, s3OptionsOf } from '../../../shared/storage/open-object-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { withDroppedIds, dividedTasks } from '../../../shared/tasks/task-copies.js';
import { HELD_JOB_COUNT_MAX, type OnProgress } from '../../process/compute-protocol.js';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { graphShelvesIn, type GraphShelves } from '../engine/capture/graph-shelf.js';
import { computeJob } from './compute-job.js';
import { createComputations } from './computations.js';
import { requireFingerprint } from '../device/fingerprint.js';
import type { DeviceReport } from '../../../shared/events/device-report.js';
import {
  runEventSink,
  sentenceOf,
  type RunEventOf,
  type StampedEvent,
} from '../../../shared/events/run-events.js';
import { measureDevice, requireDevice } from '../device/measure-device.js';
import { withSupportInputs, type SupportReads } from '../../../shared/bundle/support-rows.js';

type JobTasks = Parameters<typeof computeJob>[2];

export interface ExecutorOptions {
  /** Opens the store that a job names; called once for each store. */
  readonly openStore: (reference: StoreReference) => Promise<TaskStore>;
  /** `auto` takes the fastest that loads: native TensorFlow, then wasm, then plain JavaScript. */
  readonly backend?: BackendChoice;
  /** The device that the engine must have, whatever jobs demand; `auto` by default. */
  readonly device?: DeviceDemand;
  /** The variables of this process: those that libraries read, for the report, and the place of the cache. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Called when only a slow backend loads; by default, a warning. */
  readonly onEvent?: (event: RunEventOf<'backend-portable'>) => void;
  /** Called with the progress of the job under way. */
  readonly onProgress?: OnProgress;
  readonly clock?: Clock;
}

/** An executor that states its backend, such as `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU`. */
export type LocalExecutor = Pick<JobExecutor, 'execute' | 'close'> & {
  /** Begins to read the rows of a job that is executed later. */
  readAhead(of: Pick<JobInput, 'job' | 'given'>): void;
  forget(of: Pick<JobInput, 'job'>): void;
  readonly backend: string;
  readonly device: DeviceReport;
  readonly engine: Engine;
  /** Shelves of graphs that compute on this device; null where none are kept. */
  readonly shelves: GraphShelves | null;
};

/** Stores held open at once; the least recently used is closed beyond it. */
const OPEN_STORE_COUNT_MAX = 4;
/** Of decoded rows that a store keeps in memory. */
const STORE_CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;

/** @throws QianmoError `environment` when the backend does not load or the device is not there. */
export async function createExecutor(options: ExecutorOptions): Promise<LocalExecutor> {
  const { openStore, clock = systemClock, onProgress = () => undefined } = options;
  const { environment = {} } = options;
  const onEvent = options.onEvent ?? runEventSink({ clock }, warnOnStderr);
  const engine = await loadEngine(options.backend ?? 'auto', (fallback) =>
    onEvent({ kind: 'backend-portable', ...fallback }),
  );
  const shelves = graphShelves(engine, environment);
  const device = await measureDevice(engine, environment, shelves);
  requireDevice(options.device ?? 'auto', device);
  const shelvesOfDevice: GraphShelves | null =
    shelves === null ? null : (computation) => shelves([device.numerics, computation]);
  const computations = createComputations(engine, onProgress, shelvesOfDevice);
  const stores = openStores(openStore);
  const tasksOf = async ({ job, given }: Pick<JobInput, 'job' | 'given'>) =>
    given === undefined
      ? readJob(storeForModel(job.model, await stores.of(job.store)), job)
      : readJob(rowsGiven(given), job);

  /** The rows of jobs that have not begun. */
  const ahead = new Map<Job, Promise<JobTasks>>();
  const execute = async (input: JobInput, signal?: AbortSignal): Promise<JobOutput> => {
    const { job } = input;
    requireDevice(job.device, device);
    requireFingerprint(job.fingerprint, device);
    onProgress({ phase: 'reading' });
    const reading = ahead.get(job) ?? tasksOf(input);
    ahead.delete(job);
    const read = await reading;
    if (signal?.aborted === true)
      throw new QianmoError({ kind: 'interrupted', what: 'the job was aborted' });
    const startMs = clock.monotonicMs();
    onProgress({ phase: 'computing' });
    const computed = refusingOutOfMemory(() => computeJob(computations, input, read));
    const { backend, fingerprint } = device;
    const computeMs = clock.monotonicMs() - startMs;
    return { ...computed, computeMs, backend, fingerprint };
  };

  return {
    backend: engine.description,
    device,
    engine,
    shelves: shelvesOfDevice,
    execute,
    readAhead: (of) => keepReading(ahead, of.job, tasksOf(of)),
    forget: ({ job }) => {
      ahead.delete(job);
    },
    close: async () => {
      computations.dispose();
      await stores.close();
    },
  };
}

/** Opens stores where their references say. */
export function openStoreOnDisk({ address, digest, storage }: StoreReference): Promise<TaskStore> {
  return openTaskStore(address, {
    ...{ expectedDigest: digest, cacheByteCountMax: STORE_CACHE_BYTE_COUNT_MAX },
    objectStoreOf: (object) => openObjectStore(object, s3OptionsOf(storage)),
  });
}

interface OpenStores {
  of(reference: StoreReference): Promise<TaskStore>;
  close(): Promise<void>;
}

function openStores(openStore: ExecutorOptions['openStore']): OpenStores {
  const stores = new LruCache<string, Promise<TaskStore>>({ countMax: OPEN_STORE_COUNT_MAX });
  return {
    of: async (reference) => {
      const key = canonicalJson(reference);
      const known = stores.get(key);
      if (known !== undefined) return known;
      const opened = openVerified(openStore, reference);
      const evicted = stores.put(key, opened);
      try {
        await closeAll(evicted);
        return await opened;
      } catch (error) {
        stores.delete(key);
        throw error;
      }
    },
    close: () => closeAll(stores.clear()),
  };
}

function keepReading(
  ahead: Map<Job, Promise<JobTasks>>,
  job: Job,
  reading: Promise<JobTasks>,
): void {
  // A failed read is thrown by the `execute` that wants it, not as an unhandled rejection.
  reading.catch(() => undefined);
  ahead.set(job, reading);
  const [oldest] = ahead.keys();
  if (ahead.size > HELD_JOB_COUNT_MAX && oldest !== undefined) ahead.delete(oldest);
}

type RowSource = Pick<TaskStore, 'readTasks'> & {
  readonly manifest: Pick<GivenTasks, 'features'>;
};

function rowsGiven({ features, tasks }: GivenTasks): RowSource {
  return {
    manifest: { features },
    readTasks: (taskIndices) => Promise.resolve(taskIndices.map((index) => at(tasks, index))),
  };
}

async function readJob(store: RowSource, job: Job): Promise<JobTasks> {
  const { taskIndices, work, model } = job;
  const { features } = store.manifest;
  const divided = (await dividedTasks(store, taskIndices, divisionOf(work))).map((task) =>
    // Tasks that adapt on all their rows have no query rows.
    work.kind === 'features' || (work.kind === 'adapt' && work.rows === 'all')
      ? { ...task, supportRowCount: task.rowCount }
      : task,
  );
  const drawn = withSupportInputs(model.supportInputs, features, divided, {
    drawn: drawnRowsOf(work),
    ...supportReadsOf(work),
  });
  // Inputs made of support rows are those of the values that the rows have.
  const tasks = withDroppedIds(drawn, features, idDropoutOf(job));
  return { features, tasks };
}

/**
 * In losses before adaptation, support rows train what all tasks share. A cold term over support rows reads the losses
 * of the first inner step, so its job has one set of inputs.
 */
function supportReadsOf(work: JobWork): {
  readonly reads: SupportReads;
  readonly unadaptedReads: SupportReads;
} {
  if (work.kind !== 'gradient') return { reads: 'others', unadaptedReads: 'others' };
  const plan = methodPlanOf(work.method);
  const isOrdered = !adapts(plan) || plan.cold?.rows === 'support';
  return {
    reads: isOrdered ? 'earlier' : 'others',
    unadaptedReads: isOrdered || plan.cold !== null ? 'earlier' : 'others',
  };
}

/** Null where nothing is kept: no cache folder, a portable backend, or plugins, whose code may be anything. */
function graphShelves(
  { tf, description }: Engine,
  environment: NonNullable<ExecutorOptions['environment']>,
): GraphShelves | null {
  if (nativeBackendOf(tf) === null || loadedPlugins().length > 0) return null;
  const folder = cacheFolder(environment, 'graphs');
  return folder === null ? null : graphShelvesIn(folder, description);
}

function warnOnStderr(event: StampedEvent): void {
  process.stderr.write(`warning: ${printableText(sentenceOf(event).text)}\n`);
}

/** A store that did not open has been reported by the job that needed it. */
async function closeAll(stores: Iterable<Promise<TaskStore>>): Promise<void> {
  for (const opening of stores) {
    const store = await opening.catch(() => null);
    await store?.close();
  }
}

async function openVerified(
  openStore: ExecutorOptions['openStore'],
  reference: StoreReference,
): Promise<TaskStore> {
  const { address, digest } = reference;
  const store = await openStore(reference).catch((error: unknown) => {
    // The coordinator has opened the store, so the fault may be that of this machine alone.
    throw ofThisMachine(error);
  });
  if (store.digest === digest) return store;
  const found = store.digest;
  await store.close();
  throw errorOf('data', 'the task store is not the one this job was planned on', {
    where: address,
    expected: `manifest digest ${digest}`,
    found,
    cure: 'give coordinator and workers the same store, or start the run again',
    isOfThisMachine: true,
  });
}

/**
 * A device that has too little memory refuses the job. Smaller micro-batches would change its bits, so only the config
 * makes them.
 *
 * @throws QianmoError `environment`, which is of this machine, when its device has too little memory. Other errors of
 *   `compute` pass unchanged.
 */
export function refusingOutOfMemory<Result>(compute: () => Result): Result {
  try {
    return compute();
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    throw errorOf('environment', "the device's memory does not hold a micro-batch", {
      expected: 'memory for training.microBatchRowsMax padded rows at a time',
      found: firstLineOf(error),
      cure: 'lower training.microBatchRowsMax, which changes the digest of the run, or use a device with more memory',
      cause: error,
      isOfThisMachine: true,
    });
  }
}

/**
 * Matches the messages of the addon and the allocators for TensorFlow's status 8, RESOURCE_EXHAUSTED,
 * of a device or the host, and V8's refusal of a large buffer.
 */
const OUT_OF_MEMORY =
  /\bInvalid TF_Status: 8\b|\bOOM when allocating\b|\bRESOURCE_EXHAUSTED\b|\bResourceExhausted|\bout of memory\b|\bArray buffer allocation failed\b|\bCUDA_ERROR_OUT_OF_MEMORY\b|\bstd::bad_alloc\b/;

function isOutOfMemory(error: unknown): boolean {
  if (error instanceof QianmoError || !(error instanceof Error)) return false;
  return OUT_OF_MEMORY.test(error.message);
}

function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const telling = text.split('\n').find((line) => /OOM|memory|alloc/i.test(line));
  return (telling ?? text.split('\n')[0] ?? text).trim().slice(0, 200);
}
