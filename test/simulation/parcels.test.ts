/**
 * Small jobs that travel in parcels, in virtual time over the in-memory queue. What holds for a job holds for one
 * in a parcel. Seen to fail: with jobs handed back that are charged an attempt, and with a failure that is
 * charged to the whole parcel.
 */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { EventKind, RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import type { JobConsumer, JobQueue } from '../../shared/queue/job-queue.js';
import { MemoryJobQueue } from '../../shared/queue/memory-job-queue.js';
import { unpackedJobs } from '../../shared/queue/job-parcel.js';
import { jobSchemaFor } from '../../shared/queue/protocol.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { simulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, stateDigest, tinyRun } from '../fixtures/training/training-run.js';

const JOBS_PER_STEP = 12;
const config = logisticConfig({
  outerSteps: 3,
  // No task twice in a step: equal outputs of two jobs are one blob, and the first result that is read deletes it.
  sampling: 'sequential',
  tasksPerOuterStep: JOBS_PER_STEP,
  tasksPerJob: 1,
  checkpointEveryOuterSteps: 3,
  optimizer: { kind: 'adam', rate: 0.05 },
});
const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
const COMPUTE_MS = 100;
/** Longer than all jobs of a step: a worker that is alone gets half of them, as each has two exchanges. */
const EXCHANGE_MS = 5_000;

/** What becomes of a job beside its computation, by the number of times that it was computed before. */
type Fault = 'fails' | 'not-finite' | 'kills' | 'disk-full' | 'stops' | null;
type FaultOf = (job: JobInput['job'], earlierCount: number) => Fault;
const soundly: FaultOf = () => null;
/** A job of the second outer step, with others in its parcel. */
const VICTIM = 7;
const isVictim = ({ outerStep, jobIndex }: JobInput['job']): boolean =>
  outerStep === 1 && jobIndex === VICTIM;

async function trained(faultOf: FaultOf, workerCount = 1, queue: Record<string, unknown> = {}) {
  const clock = simulatedClock();
  const jobs = new MemoryJobQueue({ clock });
  const entries: JobInput['job'][][] = [];
  const watched = watchedQueue(jobs, (entry) => entries.push(entry));
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const computedCount = new Map<string, number>();
  const stop = new AbortController();
  const worker = (place: number) => {
    const life = { isOver: false };
    const own = new AbortController();
    stop.signal.addEventListener('abort', () => own.abort());
    const inner = logisticExecutor(store);
    const executor: JobExecutor = {
      execute: async (input, signal, onBegin) => {
        onBegin?.();
        const name = `${input.job.outerStep}/${input.job.jobIndex}`;
        const earlierCount = computedCount.get(name) ?? 0;
        computedCount.set(name, earlierCount + 1);
        const fault = faultOf(input.job, earlierCount);
        if (fault === 'kills') {
          life.isOver = true;
          await new Promise(() => undefined);
        }
        if (fault === 'stops') own.abort();
        await clock.sleep(COMPUTE_MS, signal);
        if (signal?.aborted === true)
          throw new QianmoError({ kind: 'interrupted', what: 'given up' });
        if (fault === 'fails') throw new QianmoError({ kind: 'transient', what: 'it fails' });
        if (fault === 'disk-full') throw Object.assign(new Error('full'), { code: 'ENOSPC' });
        const computed = { ...(await inner.execute(input)), computeMs: COMPUTE_MS };
        return fault === 'not-finite' ? withoutNumbers(computed) : computed;
      },
      close: () => Promise.resolve(),
    };
    const ended = runWorker({
      ...{ queue: mortalQueue(jobs, life), name: `w${place}`, nonce: `w${place}`, clock },
      ...{ signal: own.signal, executor },
    });
    return { ended, life };
  };
  const outcome = await clock.run(async () => {
    const workers = Array.from({ length: workerCount }, (_, place) => worker(place));
    const dispatcher = await createQueueDispatcher({
      ...{ queue: watched, runId: 'tiny-run', nonce: 'start', clock, sink },
      limits: queueConfig({ exchangeMs: EXCHANGE_MS, ...queue }),
    });
    try {
      return await train(tinyRun(config, { dispatcher, clock, sink }, store).options);
    } finally {
      await dispatcher.close();
      stop.abort();
      await Promise.all(workers.filter(({ life }) => !life.isOver).map(({ ended }) => ended));
    }
  });
  type EventOf<Kind> = Extract<RunEvent, { kind: Kind }>;
  const eventsOf = <Kind extends EventKind>(kind: Kind): EventOf<Kind>[] =>
    // All events of one kind have the same type.
    events.filter((event) => event.kind === kind) as EventOf<Kind>[];
  const repeated = [...computedCount].filter(([, count]) => count > 1).map(([name]) => name);
  const entrySizes = entries.map(({ length }) => length);
  const ofVictim = entries.filter((entry) => entry.some(isVictim));
  const companions = ofVictim.map((entry) =>
    entry.filter((job) => !isVictim(job)).map(({ jobIndex }) => jobIndex),
  );
  return { digest: stateDigest(outcome.state), eventsOf, entrySizes, repeated, companions };
}

function withoutNumbers(computed: JobOutput): JobOutput {
  const tensors = decodeTensors(computed.output, 'test');
  for (const { values } of tensors.values()) values.fill(Number.NaN);
  return { ...computed, output: encodeTensors(tensors) };
}

/** Tells which jobs each entry has that is added. */
function watchedQueue(inner: JobQueue, onEntry: (jobs: JobInput['job'][]) => void): JobQueue {
  return {
    address: inner.address,
    openConsumer: (options) => inner.openConsumer(options),
    openController: () => inner.openController(),
    openProducer: async () => {
      const producer = await inner.openProducer();
      return {
        ...producer,
        add: (entries) => {
          for (const { job } of entries) {
            const unpacked = unpackedJobs(job) ?? [{ data: job }];
            onEntry(unpacked.map(({ data }) => jobSchemaFor(data).parse(data)));
          }
          return producer.add(entries);
        },
      };
    },
  };
}

/** The consumers of a worker that is over say nothing any more. */
function mortalQueue(
  inner: JobQueue,
  life: { readonly isOver: boolean },
): Pick<JobQueue, 'address' | 'openConsumer'> {
  return {
    address: inner.address,
    openConsumer: async (options): Promise<JobConsumer> => {
      const consumer = await inner.openConsumer(options);
      return {
        ...consumer,
        beat: (jobId) => (life.isOver ? Promise.resolve(1) : consumer.beat(jobId)),
        extendLocks: (held) => (life.isOver ? Promise.resolve([]) : consumer.extendLocks(held)),
      };
    },
  };
}

const alone = (await trained(soundly, 1, { exchangeMs: 0 })).entrySizes;
const expected = stateDigest((await train(tinyRun(config, {}, store).options)).state);

describe('small jobs', () => {
  it('travel alone if that is asked for, and in the first outer step', async () => {
    expect(alone).toEqual(new Array<number>(3 * JOBS_PER_STEP).fill(1));
    const { entrySizes } = await trained(soundly);
    expect(entrySizes.slice(0, JOBS_PER_STEP)).toEqual(alone.slice(0, JOBS_PER_STEP));
  });

  it.each([1, 2, 3])('end with the same bits in parcels: %i workers', async (workerCount) => {
    const { digest, entrySizes, eventsOf, repeated } = await trained(soundly, workerCount);
    expect(digest).toEqual(expected);
    expect(entrySizes.reduce((sum, size) => sum + size, 0)).toBe(3 * JOBS_PER_STEP);
    expect(entrySizes.length).toBeLessThan(3 * JOBS_PER_STEP);
    expect(repeated).toEqual([]);
    expect(eventsOf('job-retried')).toEqual([]);
  });
});

describe('a job of a parcel', () => {
  it.each([
    ['fails', 'failed'],
    ['not-finite', 'rejected'],
  ] as const)('that %s costs its own attempts alone', async (fault, cause) => {
    const faultOf: FaultOf = (job, earlierCount) =>
      isVictim(job) && earlierCount < 2 ? fault : null;
    const { digest, eventsOf, repeated, companions } = await trained(faultOf, 2);
    expect(digest).toEqual(expected);
    expect(companions).toEqual([[expect.any(Number)], [], []]);
    const retried = eventsOf('job-retried').map((event) => [event.jobIndex, event.cause]);
    expect(retried).toEqual([
      [VICTIM, cause],
      [VICTIM, cause],
    ]);
    expect(repeated).toEqual([`1/${VICTIM}`]);
  });

  it('that fails on a sick machine costs no attempt, and the others of its parcel go elsewhere', async () => {
    const faultOf: FaultOf = (job, earlierCount) =>
      isVictim(job) && earlierCount === 0 ? 'disk-full' : null;
    const { digest, eventsOf, repeated } = await trained(faultOf, 2, { jobAttemptsMax: 2 });
    expect(digest).toEqual(expected);
    expect(eventsOf('job-retried')).toEqual([]);
    expect(eventsOf('worker-quarantined')).toHaveLength(1);
    expect(repeated).toEqual([`1/${VICTIM}`]);
  });

  it('that kills its worker costs each job of the parcel one attempt, and is alone afterwards', async () => {
    const faultOf: FaultOf = (job, earlierCount) =>
      isVictim(job) && earlierCount < 2 ? 'kills' : null;
    const { digest, eventsOf, companions } = await trained(faultOf, 3);
    expect(digest).toEqual(expected);
    const [together = [], ...later] = companions;
    expect(together).toHaveLength(1);
    expect(later).toEqual([[], []]);
    const retried = eventsOf('job-retried').map(({ jobIndex }) => jobIndex);
    expect(retried.sort()).toEqual([...together, VICTIM, VICTIM].sort());
  });

  it('that always fails ends the run as it does alone', async () => {
    const faultOf: FaultOf = (job) => (isVictim(job) ? 'fails' : null);
    const failures = await Promise.all(
      [EXCHANGE_MS, 0].map((exchangeMs) =>
        trained(faultOf, 2, { exchangeMs, jobAttemptsMax: 2 }).catch((error: unknown) => error),
      ),
    );
    const [inParcel, asSingle] = failures;
    expect(inParcel).toBeInstanceOf(QianmoError);
    expect(String(inParcel)).toBe(String(asSingle));
  });

  it('goes to others when its worker stops, and what is done stays done', async () => {
    const faultOf: FaultOf = (job, earlierCount) =>
      isVictim(job) && earlierCount === 0 ? 'stops' : null;
    const { digest, eventsOf, repeated } = await trained(faultOf, 2);
    expect(digest).toEqual(expected);
    expect(eventsOf('job-retried')).toEqual([]);
    expect(repeated).toEqual([`1/${VICTIM}`]);
  });
});
