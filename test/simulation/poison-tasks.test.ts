/**
 * A poison task in virtual time, over the in-memory queue and in process: it kills the worker that
 * computes it, fails it, or spoils its numbers. The run names the task and stops, or goes on without it
 * to the same meta-parameters, whatever the workers.
 */

import { describe, expect, it } from 'vitest';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor, JobOutput } from '../../shared/queue/job-executor.js';
import { Machine, SimulatedProcess, VirtualTime } from '../../infra/simulation/machines.js';
import {
  patientSignal,
  ServerLink,
  SimulatedServer,
} from '../../infra/simulation/simulated-server.js';
import { randomStream } from '../../shared/base/random.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, mapCheckpoints, tinyRun } from '../fixtures/training/training-run.js';
import { tasksOfJob } from '../fixtures/queue/tasks-of-job.js';
import { executorForTest } from '../conformance/dispatcher.js';

const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
/** A training task, and a step in which it is drawn. */
const POISON = 5;
const WORKER_COUNT = 3;

const configOf = (poisonTasks: 'stop' | 'quarantine') =>
  logisticConfig({
    ...{ outerSteps: 6, tasksPerOuterStep: 8, leavesPerOuterStepMin: 2 },
    ...{ checkpointEveryOuterSteps: 1, poisonTasks },
  });

type Poison = 'kills' | 'fails' | 'spoils';

function spoilt({ output, ...rest }: JobOutput): JobOutput {
  const tensors = decodeTensors(output, 'poison');
  tensors.get('losses.query')!.values[0] = Number.NaN;
  return { ...rest, output: encodeTensors(tensors) };
}

/** @param die ends the process that computes. */
function poisonedExecutor(poison: Poison, die: () => Promise<never>): JobExecutor {
  const inner = logisticExecutor(store);
  return executorForTest(async (input, signal) => {
    const output = await inner.execute(input, signal);
    if (!tasksOfJob(input.job).includes(POISON)) return output;
    if (poison === 'kills') return die();
    if (poison === 'spoils') return spoilt(output);
    throw new QianmoError({ kind: 'transient', what: 'the compute process ended' });
  });
}

/** Successive workers on a machine, until the signal aborts. */
async function workers(
  machine: Machine,
  { server, poison }: { readonly server: SimulatedServer; readonly poison: Poison },
  signal: AbortSignal,
): Promise<number> {
  for (let lives = 1; ; lives += 1) {
    const process = new SimulatedProcess(`${machine.name}-${lives}`, machine);
    const die = (): Promise<never> => {
      process.kill();
      return new Promise(() => undefined);
    };
    const working = runWorker({
      queue: new ServerLink(process, server, () => undefined),
      ...{ name: process.name, nonce: process.name, clock: process.clock(), signal },
      executor: poisonedExecutor(poison, die),
    });
    await Promise.race([working, process.killed]);
    if (signal.aborted) return lives;
    await machine.sleep(100, signal);
  }
}

interface Outcome {
  readonly outcome: TrainingOutcome | QianmoError;
  readonly events: readonly RunEvent[];
  readonly deathCount: number;
}

const errorOf = (error: unknown): QianmoError => {
  if (error instanceof QianmoError) return error;
  throw error;
};

async function onQueue(poison: Poison, config: ReturnType<typeof configOf>): Promise<Outcome> {
  const time = new VirtualTime();
  const machineOf = (name: string): Machine =>
    new Machine(name, time, randomStream(1, 'poison', name));
  const server = new SimulatedServer(machineOf('server'));
  const coordinator = new SimulatedProcess('coordinator', machineOf('coordinator'));
  const queue = new ServerLink(coordinator, server, () => undefined);
  const clock = coordinator.clock();
  const stop = new AbortController();
  const signal = patientSignal(stop);
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const work = async (): Promise<Outcome> => {
    const places = Array.from({ length: WORKER_COUNT }, (_, place) =>
      workers(machineOf(`worker-${place}`), { server, poison }, signal),
    );
    const limits = queueConfig({ jobAttemptsMax: 3 });
    const given = { queue, limits, runId: 'tiny-run', nonce: 'start', clock, sink };
    const dispatcher = await createQueueDispatcher(given);
    const { options } = tinyRun(config, { dispatcher, clock, sink }, store);
    const outcome = await train(options).catch(errorOf);
    stop.abort();
    const lives = await Promise.all(places);
    await dispatcher.close();
    return { outcome, events, deathCount: lives.reduce((sum, count) => sum + count - 1, 0) };
  };
  return time.run(work, () => undefined);
}

function inMemory(executor: JobExecutor, clock: Clock, sink = (_: RunEvent): void => undefined) {
  return createInMemoryDispatcher({ executors: [executor], clock, attemptsMax: 3, sink });
}

async function inProcess(
  poison: Poison,
  config: ReturnType<typeof configOf>,
  departures: Parameters<typeof tinyRun>[1] = {},
): Promise<Outcome> {
  const clock = instantClock();
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const dies = (): Promise<never> =>
    Promise.reject(new QianmoError({ kind: 'transient', what: 'the compute process ended' }));
  const dispatcher = inMemory(poisonedExecutor(poison, dies), clock, sink);
  const { options } = tinyRun(config, { dispatcher, clock, sink, ...departures }, store);
  return { outcome: await train(options).catch(errorOf), events, deathCount: 0 };
}

describe.each<Poison>(['kills', 'fails', 'spoils'])('a task that %s its job', (poison) => {
  it('ends the run, which names the task, its adgroup and its rows', async () => {
    for (const run of [onQueue, inProcess]) {
      const { outcome, deathCount } = await run(poison, configOf('stop'));
      expect(outcome).toMatchObject({
        kind: 'failed',
        report: {
          what: 'a task makes its job fail',
          found: expect.stringMatching(
            /^task task5 \(number 5, \d+ support rows, \d+ query rows; log rows \d/,
          ) as string,
          cure: expect.stringContaining('training.poisonTasks: quarantine') as string,
        },
      });
      // Three attempts at the job, then one at the task among the others, and two at the task alone.
      expect(deathCount).toBeLessThanOrEqual(6);
    }
  });

  it('is left out when it is to be quarantined, to the same digest for any workers', async () => {
    const config = configOf('quarantine');
    const [queued, alone] = [await onQueue(poison, config), await inProcess(poison, config)];
    for (const { outcome, events } of [queued, alone]) {
      if (outcome instanceof QianmoError) throw outcome;
      expect(outcome.outerSteps).toBe(6);
      expect(outcome.state.quarantinedTasks).toEqual([
        { outerStep: expect.any(Number) as number, taskIndex: POISON, key: 'task5' },
      ]);
      expect(events.filter(({ kind }) => kind === 'task-quarantined')).toHaveLength(1);
    }
    expect(queued.outcome).toMatchObject({ digest: (alone.outcome as TrainingOutcome).digest });
  });
});

describe('a quarantined task', () => {
  it('stays out after a resume, which ends with the same digest', async () => {
    const config = configOf('quarantine');
    const whole = (await inProcess('fails', config)).outcome as TrainingOutcome;
    const checkpoints = mapCheckpoints();
    const [quarantined] = whole.state.quarantinedTasks ?? [];
    const stopAtOuterStep = (quarantined?.outerStep ?? 0) + 1;
    await inProcess('fails', config, { checkpoints, stopAtOuterStep });
    const { outcome, events } = await inProcess('fails', config, { checkpoints, resume: true });
    expect(outcome).toMatchObject({ digest: whole.digest });
    expect(events.filter(({ kind }) => kind === 'job-retried')).toEqual([]);
  });

  it('may be resumed from a run that stopped at it', async () => {
    const checkpoints = mapCheckpoints();
    const stopped = await inProcess('fails', configOf('stop'), { checkpoints });
    expect(stopped.outcome).toBeInstanceOf(QianmoError);
    const departures = { checkpoints, resume: true };
    const { outcome } = await inProcess('fails', configOf('quarantine'), departures);
    const whole = await inProcess('fails', configOf('quarantine'));
    expect(outcome).toMatchObject({ digest: (whole.outcome as TrainingOutcome).digest });
  });
});

describe('jobs that fail whatever their tasks are', () => {
  it('blame no task', async () => {
    const clock = instantClock();
    const executor = executorForTest(() =>
      Promise.reject(new QianmoError({ kind: 'transient', what: 'no memory' })),
    );
    const dispatcher = inMemory(executor, clock);
    const { options } = tinyRun(configOf('quarantine'), { dispatcher, clock }, store);
    await expect(train(options)).rejects.toMatchObject({
      report: { what: 'a job used up its attempts' },
    });
  });

  it.each([
    ['one after the other', undefined],
    ['that overlap', { outerSteps: 1, drainEveryOuterSteps: 4 }],
  ])(
    'are tried once more in a whole outer step when the failure has passed: %s',
    async (_, staleness) => {
      const clock = instantClock();
      const inner = logisticExecutor(store, LEAF_IS_A_JOB);
      const config = logisticConfig({
        ...{ outerSteps: 4, tasksPerOuterStep: 12, leavesPerOuterStepMin: 3 },
        ...{ checkpointEveryOuterSteps: 4, staleness },
      });
      let failureCount = 3;
      const executor = executorForTest((input) => {
        // Other jobs of the outer step have results by then, and the tables have changed since they were sent.
        const { outerStep, jobIndex } = input.job;
        if (outerStep !== 1 || jobIndex !== 1 || failureCount === 0) return inner.execute(input);
        failureCount -= 1;
        return Promise.reject(new QianmoError({ kind: 'transient', what: 'it passes' }));
      });
      const dispatcher = inMemory(executor, clock);
      const { options } = tinyRun(config, { dispatcher, clock }, store);
      const undisturbed = await train(tinyRun(config, {}, store).options);
      expect((await train(options)).digest).toBe(undisturbed.digest);
      expect(failureCount).toBe(0);
    },
  );
});
