/** The job ahead of a compute process: it begins by itself, and can be taken back. Forks compiled code. */

import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import type { JobInput } from '../../../shared/queue/job-executor.js';
import {
  type ComputeEvent,
  createComputeProcess,
  type ComputeExecutor,
} from '../../../worker/process/compute-process.js';
import {
  type GradientCaseWork,
  jobCaseOf,
  jobInputOf,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);
const work: GradientCaseWork = {
  kind: 'gradient',
  method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
  taskWeights: [0.5, 0.25, 0.25],
};

let input: JobInput;
const inputOf = (runId: string): JobInput => ({ ...input, job: { ...input.job, runId } });
let events: ComputeEvent[] = [];
let onProgressOfAhead = (): void => undefined;
const opened: ComputeExecutor[] = [];

beforeAll(async () => {
  const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  input = await jobInputOf(jobCase, [0, 1, 2], work);
});
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close();
});

async function started(): Promise<ComputeExecutor> {
  events = [];
  const onEvent = (event: ComputeEvent): void => {
    events.push(event);
    if (event.kind === 'job-progress' && event.runId === 'ahead') onProgressOfAhead();
  };
  const { env: environment } = process;
  const executor = createComputeProcess({ clock: systemClock, entry, environment, onEvent });
  opened.push(executor);
  await executor.start();
  return executor;
}

/** Begins a job; its request has been sent when this returns. */
async function underWay(
  executor: ComputeExecutor,
): Promise<{ done: ReturnType<ComputeExecutor['execute']> }> {
  const done = executor.execute(input);
  // The request is sent when earlier turns have ended, which takes no message.
  await new Promise((resolve) => setImmediate(resolve));
  return { done };
}

test('it begins before anybody waits for it', async () => {
  const executor = await started();
  const { done } = await underWay(executor);
  const begun = new Promise<void>((resolve) => (onProgressOfAhead = resolve));
  executor.prepare(inputOf('ahead'));
  expect((await done).queryRowCount).toBeGreaterThan(0);
  await begun;
});

test('its answer is kept until it is waited for', async () => {
  const executor = await started();
  const { done } = await underWay(executor);
  const ahead = inputOf('ahead');
  executor.prepare(ahead);
  const expected = await done;
  const answer = await executor.execute(ahead);
  expect(Buffer.from(answer.output).equals(Buffer.from(expected.output))).toBe(true);
  expect(events.filter((event) => event.kind === 'compute-started')).toHaveLength(1);
});

test('it does not begin when it is taken back, and one that has begun is not answered', async () => {
  const executor = await started();
  const early = inputOf('exits');
  executor.prepare(early);
  executor.prepare(null);
  const { done } = await underWay(executor);
  const begun = inputOf('begun');
  executor.prepare(begun);
  executor.prepare(null);
  await done;
  for (const name of ['next', 'last'])
    expect((await executor.execute(inputOf(name))).queryRowCount).toBeGreaterThan(0);
  expect(events.filter((event) => event.kind === 'compute-ended')).toEqual([]);
});
