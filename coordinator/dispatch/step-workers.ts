/** The workers that a step depends on: tells when there are none, and gives up when none is healthy. */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import type { Patiently } from './queue-patience.js';
import { noWorkerHealthy, type OpenJobs } from './step-failures.js';
import type { WorkerHealth } from './worker-health.js';

const WORKERLESS_NOTICE_MS = 10_000;

interface StepWorkersOptions {
  readonly producer: JobProducer;
  readonly health: WorkerHealth;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

export class StepWorkers {
  readonly #options: StepWorkersOptions;
  readonly #patiently: Patiently;
  readonly #startMs: number;
  #saidWorkerless = false;

  constructor(options: StepWorkersOptions, patiently: Patiently) {
    this.#options = options;
    this.#patiently = patiently;
    this.#startMs = options.clock.monotonicMs();
  }

  async names(): Promise<string[]> {
    const workers = await this.#patiently(() => this.#options.producer.workers());
    return workers.map(({ name }) => name);
  }

  /** Asks the workers that are sick to take no job. */
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

  /** Says once, after a while, that there are none. */
  async sayWhenThereAreNone(open: () => OpenJobs): Promise<void> {
    const { clock, sink } = this.#options;
    if (this.#saidWorkerless || clock.monotonicMs() - this.#startMs < WORKERLESS_NOTICE_MS) return;
    this.#saidWorkerless = true;
    if ((await this.names()).length > 0) return;
    sink({ kind: 'workers-missing', openJobCount: open().openCount });
  }
}
