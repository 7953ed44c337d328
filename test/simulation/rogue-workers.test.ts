/**
 * Workers that lie or are broken, beside honest ones, in virtual time over the in-memory queue. A run ends with
 * the meta-parameters of an honest one, bit for bit, and names them.
 */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { EventKind, RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { simulatedClock, type SimulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../fixtures/queue/logistic-executor.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { logisticConfig, stateDigest, tinyRun } from '../fixtures/training/training-run.js';

const config = logisticConfig({
  outerSteps: 6,
  tasksPerOuterStep: 12,
  leavesPerOuterStepMin: 6,
  checkpointEveryOuterSteps: 6,
  optimizer: { kind: 'adam', rate: 0.05 },
});
const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
const COMPUTE_MS = 100;

type Change = (output: JobOutput, input: JobInput) => JobOutput;
const honest: Change = (output) => output;
const slightly: Change = (output) => scaled(output, 1.001);

function scaled(output: JobOutput, factor: number): JobOutput {
  const tensors = decodeTensors(output.output, 'rogue');
  for (const { values } of tensors.values())
    for (let index = 0; index < values.length; index += 1) values[index]! *= factor;
  return { ...output, output: encodeTensors(tensors) };
}

/** Takes as long for each job, so that all workers get some. */
function executorOf(change: Change, clock: SimulatedClock): JobExecutor {
  const inner = logisticExecutor(store, LEAF_IS_A_JOB);
  return {
    execute: async (input, signal) => {
      await clock.sleep(COMPUTE_MS, signal);
      return change(await inner.execute(input), input);
    },
    close: () => Promise.resolve(),
  };
}

/** Trains with one worker for each change, named `w0`, `w1` and so on. */
async function trained(
  changes: readonly Change[],
  share: number,
  queue: Record<string, unknown> = {},
) {
  const clock = simulatedClock();
  const jobs = new MemoryJobQueue({ clock });
  const events: RunEvent[] = [];
  const sink = (event: RunEvent): void => void events.push(event);
  const stop = new AbortController();
  const outcome = await clock.run(async () => {
    const workers = changes.map((change, index) =>
      runWorker({
        ...{ queue: jobs, name: `w${index}`, nonce: `w${index}`, clock, signal: stop.signal },
        executor: executorOf(change, clock),
      }),
    );
    const dispatcher = await createQueueDispatcher({
      ...{
        queue: jobs,
        limits: queueConfig(queue),
        runId: 'tiny-run',
        nonce: 'start',
        clock,
        sink,
      },
      recomputed: { seed: config.seed, share },
    });
    try {
      return await train(tinyRun(config, { dispatcher, clock, sink }, store).options);
    } finally {
      await dispatcher.close();
      stop.abort();
      await Promise.all(workers);
    }
  });
  type EventOf<Kind> = Extract<RunEvent, { kind: Kind }>;
  const eventsOf = <Kind extends EventKind>(kind: Kind): EventOf<Kind>[] =>
    // All events of one kind have the same type.
    events.filter((event) => event.kind === kind) as EventOf<Kind>[];
  return { digest: stateDigest(outcome.state), eventsOf };
}

const expected = stateDigest((await train(tinyRun(config, {}, store).options)).state);

describe('a worker whose gradients are a little wrong', () => {
  it('is found when all jobs are computed twice, and changes nothing', async () => {
    const { digest, eventsOf } = await trained([honest, slightly, honest], 1);
    expect(digest).toEqual(expected);
    expect(eventsOf('worker-distrusted')).toMatchObject([{ distrustedWorker: 'w1' }]);
    expect(eventsOf('results-disagree').length).toBeGreaterThan(0);
  });

  it('is found later when a share is, and is used no more', async () => {
    const { eventsOf } = await trained([honest, slightly, honest], 0.2);
    expect(eventsOf('worker-distrusted')).toMatchObject([{ distrustedWorker: 'w1' }]);
  });

  it('ends the run where no third worker can tell who is right', async () => {
    const training = trained([honest, slightly], 1, { outerStepTimeoutMs: 60_000 });
    await expect(training).rejects.toMatchObject({ kind: 'transient' });
  });

  it('that gives other bits each time does not stay unnoticed among liars', async () => {
    let count = 0;
    const noisily: Change = (output) => scaled(output, 1 + 0.001 * (count += 1));
    await expect(trained([honest, noisily, slightly], 1)).rejects.toMatchObject({
      report: { what: 'three workers gave three results of one job' },
    });
  });
});

it.each([1, 2, 3])(
  'honest workers end with the same bits when all is computed twice: %i',
  async (count) => {
    const changes = Array.from({ length: count }, () => honest);
    const { digest, eventsOf } = await trained(changes, 1);
    expect(digest).toEqual(expected);
    expect(eventsOf('results-disagree')).toEqual([]);
  },
);
