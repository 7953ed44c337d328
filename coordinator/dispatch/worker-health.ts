/**
 * The workers that a run depends on: how many there are, how many jobs they get, which refuse the jobs of the run,
 * which are sick, and why. A worker is sick when it says so, or when its jobs fail and then succeed elsewhere. It is
 * quarantined: it takes no job for a while, longer each time. When no connected worker is able and healthy for a
 * while, the run is given up.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { DEVICE_POOLS, type DevicePool } from '../../shared/names/event-terms.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import { leafCountOf, type CarriedJob } from '../../shared/queue/protocol.js';
import type { Patiently } from './queue-patience.js';

/** Long enough to restart a capable worker after a crash, or to free a disk. */
const NONE_HEALTHY_MS_MAX = 60_000;
const QUARANTINE_MS_MIN = 5_000;
const QUARANTINE_MS_MAX = 60_000;
/** This many failures of jobs that then succeed elsewhere make a worker sick. */
const CHARGES_MAX = 3;
/** A job done takes back a quarter of a charge: a worker may fail one job in five. */
const CHARGE_PER_JOB_DONE = 0.25;
const NAMED_COUNT_MAX = 3;

interface Sickness {
  reason: string;
  quarantineCount: number;
  endMs: number;
}

interface WorkerHealthOptions {
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

export class WorkerHealth {
  readonly #clock: Clock;
  readonly #sink: RunEventSink;
  readonly #refusalByWorker = new Map<string, string>();
  readonly #sicknessByWorker = new Map<string, Sickness>();
  readonly #chargesByWorker = new Map<string, number>();
  /** Quarantines that the queue does not know yet. */
  readonly #dueQuarantines = new Map<string, number>();
  #noneHealthySinceMs: number | null = null;

  constructor({ clock, sink }: WorkerHealthOptions) {
    this.#clock = clock;
    this.#sink = sink;
  }

  get isUnclouded(): boolean {
    return this.#refusalByWorker.size === 0 && this.#sicknessByWorker.size === 0;
  }

  get isAnySick(): boolean {
    return this.#sicknessByWorker.size > 0;
  }

  refused(worker: string, reason: string): void {
    if (this.#refusalByWorker.get(worker) === reason) return;
    this.#refusalByWorker.set(worker, reason);
    this.#sink({ kind: 'worker-refused', refusingWorker: worker, reason });
  }

  /** Quarantines the worker. One that is in quarantine finishes the jobs that it held. */
  sick(worker: string, reason: string): void {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#sicknessByWorker.get(worker);
    if (known !== undefined && nowMs < known.endMs) return;
    const quarantineCount = (known?.quarantineCount ?? 0) + 1;
    const quarantineMs = Math.min(
      QUARANTINE_MS_MIN * 2 ** (quarantineCount - 1),
      QUARANTINE_MS_MAX,
    );
    this.#sicknessByWorker.set(worker, { reason, quarantineCount, endMs: nowMs + quarantineMs });
    this.#dueQuarantines.set(worker, quarantineMs);
    this.#sink({ kind: 'worker-quarantined', quarantinedWorker: worker, reason, quarantineMs });
  }

  charge(worker: string, reason: string): void {
    const charges = (this.#chargesByWorker.get(worker) ?? 0) + 1;
    this.#chargesByWorker.set(worker, Math.min(charges, CHARGES_MAX));
    if (charges >= CHARGES_MAX)
      this.sick(worker, `jobs that failed here then succeeded elsewhere; the last one: ${reason}`);
  }

  didJob(worker: string): void {
    this.#noneHealthySinceMs = null;
    this.#refusalByWorker.delete(worker);
    const charges = (this.#chargesByWorker.get(worker) ?? 0) - CHARGE_PER_JOB_DONE;
    if (charges > 0) this.#chargesByWorker.set(worker, charges);
    else this.absolve(worker);
  }

  absolve(worker: string): void {
    this.#chargesByWorker.delete(worker);
    this.#sicknessByWorker.delete(worker);
  }

  isSick(worker: string): boolean {
    return this.#sicknessByWorker.has(worker);
  }

  /** Returns each quarantine once, in milliseconds by worker, for the queue to enforce. */
  takeQuarantines(): ReadonlyMap<string, number> {
    const due = new Map(this.#dueQuarantines);
    this.#dueQuarantines.clear();
    return due;
  }

  /** Whether a connected worker other than these neither refuses nor is sick. */
  hasHealthyOther(workers: readonly string[], connected: readonly string[]): boolean {
    return connected.some((name) => !workers.includes(name) && !this.#isClouded(name));
  }

  /**
   * Returns `give-up` when every connected worker has refused or been sick for
   * `NONE_HEALTHY_MS_MAX`. The caller asks at intervals.
   */
  judge(connected: readonly string[]): 'wait' | 'give-up' {
    // An empty list means that Redis was away or that workers are restarting.
    if (connected.length > 0) this.#forgetAllBut(connected);
    const isEveryOne = connected.length > 0 && connected.every((name) => this.#isClouded(name));
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = this.#noneHealthySinceMs ?? nowMs;
    this.#noneHealthySinceMs = isEveryOne ? sinceMs : null;
    return isEveryOne && nowMs - sinceMs >= NONE_HEALTHY_MS_MAX ? 'give-up' : 'wait';
  }

  /** Returns `worker a: no GPU; worker b: the disk is full`, or null when all are healthy. */
  describe(): string | null {
    if (this.isUnclouded) return null;
    const reasons = new Map([
      ...[...this.#sicknessByWorker].map(([worker, { reason }]) => [worker, reason] as const),
      ...this.#refusalByWorker,
    ]);
    const named = [...reasons]
      .slice(0, NAMED_COUNT_MAX)
      .map(([worker, reason]) => `worker ${worker}: ${reason}`);
    const restCount = reasons.size - named.length;
    return [...named, ...(restCount > 0 ? [`and ${restCount} more`] : [])].join('; ');
  }

  #isClouded(worker: string): boolean {
    return this.#refusalByWorker.has(worker) || this.#sicknessByWorker.has(worker);
  }

  #forgetAllBut(connected: readonly string[]): void {
    const known = [this.#refusalByWorker, this.#sicknessByWorker, this.#chargesByWorker];
    for (const byWorker of known)
      for (const worker of byWorker.keys())
        if (!connected.includes(worker)) byWorker.delete(worker);
  }
}

const WORKERLESS_NOTICE_MS = 10_000;
/** The number of jobs on the queue at once. It bounds the memory that row packs take. */
const OPEN_JOB_COUNT_MIN = 8;
/** One computes, one waits at its worker, and one is on its way. */
const OPEN_JOBS_PER_WORKER = 3;
const WORKER_COUNT_AGE_MS_MAX = 1_500;

/** The number of connected workers, or that of a moment ago. The steps of a dispatcher share it. */
export class WorkerCount {
  readonly #ask: () => Promise<number>;
  readonly #clock: Clock;
  #count = 0;
  #countedMs = Number.NEGATIVE_INFINITY;
  #isCounting = false;

  constructor(producer: Pick<JobProducer, 'workers'>, clock: Clock) {
    this.#ask = async () => (await producer.workers()).length;
    this.#clock = clock;
  }

  /** Returns the latest count without waiting. When that is old, workers are counted again meanwhile. */
  latest(): number {
    if (this.#isOld() && !this.#isCounting) {
      this.#isCounting = true;
      // While the server is away, the count stays what it was.
      void this.current((ask) => ask())
        .catch(() => undefined)
        .finally(() => (this.#isCounting = false));
    }
    return this.#count;
  }

  async current(patiently: Patiently): Promise<number> {
    if (this.#isOld()) {
      this.#count = await patiently(this.#ask);
      this.#countedMs = this.#clock.monotonicMs();
    }
    return this.#count;
  }

  #isOld(): boolean {
    return this.#clock.monotonicMs() - this.#countedMs > WORKER_COUNT_AGE_MS_MAX;
  }
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

  async sendCount({
    openCount,
    unsentCount,
  }: Readonly<Record<'openCount' | 'unsentCount', number>>): Promise<number> {
    if (openCount + unsentCount <= OPEN_JOB_COUNT_MIN) return unsentCount;
    const workerCount = await this.#options.counted.current(this.#patiently);
    const countMax = Math.max(OPEN_JOB_COUNT_MIN, OPEN_JOBS_PER_WORKER * workerCount);
    return Math.min(unsentCount, Math.max(0, countMax - openCount));
  }

  async quarantine(): Promise<void> {
    const { health, producer } = this.#options;
    for (const [worker, durationMs] of health.takeQuarantines())
      await this.#patiently(() => producer.quarantine(worker, durationMs));
  }

  /**
   * @param where names an open job
   * @throws QianmoError when none of those that are connected has been healthy for long.
   */
  async requireHealthy(where: string | undefined): Promise<void> {
    const { health } = this.#options;
    if (health.isUnclouded || health.judge(await this.names()) === 'wait') return;
    throw new QianmoError({
      kind: health.isAnySick ? 'environment' : 'failed',
      what: health.isAnySick
        ? 'no connected worker is healthy'
        : 'every connected worker refuses the jobs of this run',
      ...(where === undefined ? {} : { where }),
      expected: `a worker that does jobs within ${NONE_HEALTHY_MS_MAX} ms`,
      found: health.describe() ?? '',
      cure: 'correct what the workers found, or start a worker that can do the jobs; then continue with --resume',
    });
  }

  /** Looks every now and then, and reports each time that there are none any more, or none yet. */
  async reportMissingWorkers(openJobCount: number): Promise<void> {
    const { clock, sink } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#lookedMs < WORKERLESS_NOTICE_MS) return;
    this.#lookedMs = nowMs;
    const isWorkerless = (await this.names()).length === 0;
    const isNews = isWorkerless && !this.#saidWorkerless;
    this.#saidWorkerless = isWorkerless;
    if (isNews) sink({ kind: 'workers-missing', openJobCount });
  }
}

interface WantedBy {
  readonly job: Pick<CarriedJob, 'device' | 'work'>;
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
