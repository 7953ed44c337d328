/** A run in virtual time over the queue in memory, to which orders are given. */

import { expect } from 'vitest';
import type { Dispatcher } from '../../coordinator/dispatch/dispatcher.js';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { orderedRun } from '../../coordinator/runs/control-run.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { NO_ORDERS } from '../../shared/queue/run-orders.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import { signedJobQueue } from '../../shared/queue/signed-job-queue.js';
import type { SigningKey } from '../../shared/queue/signing.js';
import { MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { simulatedClock, type SimulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import {
  logisticConfig,
  mapCheckpoints,
  stateDigest,
  tinyRun,
} from '../fixtures/training/training-run.js';

export const training = {
  outerSteps: 12,
  tasksPerOuterStep: 6,
  leavesPerOuterStepMin: 3,
  checkpointEveryOuterSteps: 5,
  optimizer: { kind: 'adam', rate: 0.05 },
};
export const RUN = 'tiny-run';
export const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
const JOB_MS = 4_000;

interface TrainingTerms {
  /** The outer step before whose first job a pause is heard, when the loop has begun with it. */
  readonly pausedBefore?: number;
}

type Order = Parameters<typeof orderedRun>[2];

/** A coordinator and a worker, to which orders are given. */
export class ControlScene {
  readonly clock: SimulatedClock = simulatedClock();
  /** The server, as somebody without the key of the pool reaches it. */
  readonly queue = new MemoryJobQueue({ clock: this.clock });
  readonly checkpoints = mapCheckpoints();
  readonly events: { readonly atMs: number; readonly event: RunEvent }[] = [];
  /** When a worker began to compute each job. */
  readonly jobStartsMs: number[] = [];
  readonly #stop = new AbortController();
  #startCount = 0;
  readonly #waiting = new Set<() => void>();
  readonly #key: SigningKey | null;

  /** @param key null for a pool without one */
  constructor(key: SigningKey | null = null) {
    this.#key = key;
  }

  run<Outcome>(work: () => Promise<Outcome>): Promise<Outcome> {
    return this.clock.run(async () => {
      const worker = runWorker({
        ...{
          queue: signedJobQueue(this.queue, this.#key),
          name: 'w',
          nonce: 'w',
          clock: this.clock,
          signal: this.#stop.signal,
        },
        executor: this.#slowExecutor(),
      });
      const outcome = await work();
      this.#stop.abort();
      await worker;
      return outcome;
    });
  }

  async train(
    config: RunConfig,
    resume = false,
    { pausedBefore }: TrainingTerms = {},
  ): Promise<TrainingOutcome> {
    this.#startCount += 1;
    const sink = (event: RunEvent): void => {
      this.events.push({ atMs: this.clock.monotonicMs(), event });
      for (const look of [...this.#waiting]) look();
    };
    const { clock, checkpoints } = this;
    const dispatcher = await createQueueDispatcher({
      ...{
        queue: signedJobQueue(this.queue, this.#key),
        limits: queueConfig(),
        runId: RUN,
        nonce: `start-${this.#startCount}`,
        clock,
        sink,
      },
    });
    try {
      const departures = { checkpoints, resume, clock, sink, dispatcher };
      if (pausedBefore !== undefined)
        departures.dispatcher = this.#pausing(dispatcher, pausedBefore);
      const { options } = tinyRun(config, departures, store);
      return await train(options);
    } finally {
      await dispatcher.close();
    }
  }

  #pausing(dispatcher: Dispatcher, outerStep: number): Dispatcher {
    const pause = async (): Promise<void> => {
      const controller = await this.queue.openController();
      await controller.replace(RUN, NO_ORDERS, { ...NO_ORDERS, isPaused: true });
      await dispatcher.control?.refresh();
    };
    return {
      ...dispatcher,
      run: (orders, read, signal, terms) => {
        const run = () => dispatcher.run(orders, read, signal, terms);
        return orders[0]?.job.outerStep === outerStep ? after(pause, run) : run();
      },
    };
  }

  order(order: Order, key = this.#key): ReturnType<typeof orderedRun> {
    const { signal } = new AbortController();
    return orderedRun(signedJobQueue(this.queue, key), RUN, order, { clock: this.clock, signal });
  }

  /** Resolves when an event of the kind has been emitted that passes. */
  saw(kind: RunEvent['kind'], passes: (event: RunEvent) => boolean = () => true): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!this.events.some(({ event }) => event.kind === kind && passes(event))) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  sawStep(outerStep: number): Promise<void> {
    return this.saw('outer-step', (event) => 'outerStep' in event && event.outerStep >= outerStep);
  }

  /** The jobs of complete outer steps. */
  countedJobs(): number {
    return this.events.reduce(
      (sum, { event }) => sum + (event.kind === 'outer-step-timed' ? event.jobCount : 0),
      0,
    );
  }

  kinds(): string[] {
    return this.events.map(({ event }) => event.kind);
  }

  #slowExecutor(): JobExecutor {
    const inner = logisticExecutor(store, LEAF_IS_A_JOB);
    return {
      execute: async (input, signal) => {
        this.jobStartsMs.push(this.clock.monotonicMs());
        await this.clock.sleep(JOB_MS, signal);
        return inner.execute(input);
      },
      close: () => Promise.resolve(),
    };
  }
}

async function* after<Value>(
  first: () => Promise<void>,
  run: () => AsyncIterable<Value>,
): AsyncIterable<Value> {
  await first();
  yield* run();
}

const undisturbedByLength = new Map<number, Promise<TrainingOutcome>>();

export function undisturbed(outerSteps = training.outerSteps): Promise<TrainingOutcome> {
  const outcome =
    undisturbedByLength.get(outerSteps) ??
    train(tinyRun(logisticConfig({ ...training, outerSteps }), {}, store).options);
  undisturbedByLength.set(outerSteps, outcome);
  return outcome;
}

export function expectEqual(outcome: TrainingOutcome, expected: TrainingOutcome): void {
  expect(outcome.outerSteps).toBe(expected.outerSteps);
  expect(stateDigest(outcome.state)).toEqual(stateDigest(expected.state));
}

export const config = logisticConfig(training);
