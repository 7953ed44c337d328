/** The workers that a step depends on: how many jobs they get, whether there are any, and whether one is healthy. */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import type { Patiently } from './queue-patience.js';
import { noWorkerHealthy, type OpenJobs } from './step-failures.js';
import type { WorkerHealth } from './worker-health.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import { type Job, leafCountOf } from '../../shared/queue/protocol.js';
import { DEVICE_POOLS, type DevicePool } from '../../shared/names/event-terms.js';

const WORKERLESS_NOTICE_MS = 10_000;
/** The number of jobs on the queue at once. It bounds the memory that row packs take. */
const OPEN_JOB_COUNT_MIN = 8;
/** One computes, one waits at its worker, and one is on its way. */
const OPEN_JOBS_PER_WORKER = 3;
const WORKER_COUNT_AGE_MS_MAX = 1_500;

/** The number of workers when they were counted last. The steps of a dispatcher share it. */
export interface WorkerCount {
  workerCount: number;
  atMs: number;
}

export function nobodyCounted(): WorkerCount {
  return { workerCount: 0, atMs: Number.NEGATIVE_INFINITY };
}

/** Returns the latest count without waiting. When that is old, workers are counted again meanwhile. */
export function latestWorkerCount({
  producer,
  clock,
  counted,
}: Pick<StepWorkersOptions, 'producer' | 'clock' | 'counted'>): () => number {
  let isCounting = false;
  const count = async (): Promise<void> => {
    isCounting = true;
    const { length: workerCount } = await producer.workers();
    Object.assign(counted, { workerCount, atMs: clock.monotonicMs() });
  };
  return () => {
    const isOld = clock.monotonicMs() - counted.atMs > WORKER_COUNT_AGE_MS_MAX;
    // While the server is away, the count stays what it was.
    if (isOld && !isCounting)
      void count()
        .catch(() => undefined)
        .finally(() => (isCounting = false));
    return counted.workerCount;
  };
}

interface StepWorkersOptions {
  readonly producer: JobProducer;
  readonly health: WorkerHealth;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly counted: WorkerCount;
}

export class StepWorkers {
  readonly #options: StepWorkersOptions;
  readonly #patiently: Patiently;
  /** When workers were looked for, on the clock of the step; its start at first. */
  #lookedMs: number;
  #saidWorkerless = false;

  constructor(options: StepWorkersOptions, patiently: Patiently) {
    this.#options = options;
    this.#patiently = patiently;
    this.#lookedMs = options.clock.monotonicMs();
  }

  async names(): Promise<string[]> {
    const workers = await this.#patiently(() => this.#options.producer.workers());
    return workers.map(({ name }) => name);
  }

  /** The number of workers that are connected, or were a moment ago. */
  async count(): Promise<number> {
    const { clock, counted } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - counted.atMs > WORKER_COUNT_AGE_MS_MAX)
      Object.assign(counted, { workerCount: (await this.names()).length, atMs: nowMs });
    return counted.workerCount;
  }

  async sendCount({
    openCount,
    unsentCount,
  }: Readonly<Record<'openCount' | 'unsentCount', number>>): Promise<number> {
    if (openCount + unsentCount <= OPEN_JOB_COUNT_MIN) return unsentCount;
    const countMax = Math.max(OPEN_JOB_COUNT_MIN, OPEN_JOBS_PER_WORKER * (await this.count()));
    return Math.min(unsentCount, Math.max(0, countMax - openCount));
  }

  async quarantine(): Promise<void> {
    const { health, producer } = this.#options;
    for (const [worker, durationMs] of health.takeQuarantines())
      await this.#patiently(() => producer.quarantine(worker, durationMs));
  }

  /** @throws QianmoError when none of those that are connected has been healthy for long. */
  async requireHealthy(open: () => OpenJobs): Promise<void> {
    const { health } = this.#options;
    if (health.isUnclouded || health.judge(await this.names()) === 'wait') return;
    throw noWorkerHealthy(open(), health);
  }

  /** Looks every now and then, and says each time that there are none any more, or none yet. */
  async sayWhenThereAreNone(open: () => OpenJobs): Promise<void> {
    const { clock, sink } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#lookedMs < WORKERLESS_NOTICE_MS) return;
    this.#lookedMs = nowMs;
    const isWorkerless = (await this.names()).length === 0;
    const isNews = isWorkerless && !this.#saidWorkerless;
    this.#saidWorkerless = isWorkerless;
    if (isNews) sink({ kind: 'workers-missing', openJobCount: open().openCount });
  }
}

interface WantedBy {
  readonly job: Pick<Job, 'device' | 'work'>;
}

export class WantedWorkers {
  readonly #sink: RunEventSink;
  readonly #told = new Map<DevicePool, number>();

  constructor(sink: RunEventSink) {
    this.#sink = sink;
  }

  /** One worker for each leaf: deliveries are cut for the workers that there are. More would find nothing to do. */
  want(orders: readonly WantedBy[]): void {
    for (const device of DEVICE_POOLS)
      this.#tell(
        device,
        orders
          .filter(({ job }) => poolOf(job.device) === device)
          .reduce((sum, { job }) => sum + leafCountOf(job), 0),
      );
  }

  #tell(device: DevicePool, workerCount: number): void {
    if ((this.#told.get(device) ?? 0) === workerCount) return;
    this.#told.set(device, workerCount);
    this.#sink({ kind: 'workers-wanted', device, workerCount });
  }
}

function poolOf(demand: DeviceDemand): DevicePool {
  return demand === 'gpu' ? 'gpu' : 'cpu';
}
