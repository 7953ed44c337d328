// The compute process as its parent sees it: answers, deadlines, deaths. Forks compiled code.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.js';
import { QianmoError } from '../../shared/errors.js';
import type { JobExecutor, JobInput } from '../../shared/job-executor.js';
import type { JobWork } from '../../shared/protocol.js';
import {
  createComputeProcess,
  describeComputeBackend,
  type ComputeEvent,
} from '../../worker/compute-process.js';
import { jobCaseOf, jobInputOf } from '../fixtures/compute-inputs.js';
import { tinyTaskStore } from '../fixtures/tiny-task-store.js';

const entry = fileURLToPath(new URL('../../dist/test/fixtures/compute-entry.js', import.meta.url));
const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
const work: JobWork = {
  kind: 'gradient',
  method: { kind: 'fomaml', innerSteps: 3, innerRate: 0.1, coldShare: 0 },
  taskWeights: [0.5, 0.25, 0.25],
};

let events: ComputeEvent[] = [];
const opened: JobExecutor[] = [];
const open = (): JobExecutor => {
  events = [];
  const onEvent = (event: ComputeEvent): void => void events.push(event);
  const executor = createComputeProcess({ clock: systemClock, entry, onEvent });
  opened.push(executor);
  return executor;
};
const endings = (): string[] => events.flatMap((e) => (e.kind === 'ended' ? [e.why] : []));

let input: JobInput;
const inputOf = (runId: string, timeoutMs = 60_000): JobInput => ({
  ...input,
  job: { ...input.job, runId, timeoutMs },
});

beforeAll(async () => {
  expect(existsSync(entry), 'run npm run build first').toBe(true);
  input = await jobInputOf(jobCase, [0, 1, 2], work);
});
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close();
});

async function failureOf(promise: Promise<unknown>): Promise<QianmoError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof QianmoError)) throw new Error(`no QianmoError but ${String(error)}`);
  return error;
}

test('two fresh processes give the same bytes', async () => {
  const first = await open().execute(input);
  const second = await open().execute(input);
  expect(Buffer.from(first.output).equals(Buffer.from(second.output))).toBe(true);
  expect(first.output.byteLength).toBeGreaterThan(1000);
  expect(first.weightedQueryLoss).toBe(second.weightedQueryLoss);
});

test('a job past its deadline is killed and the next one gets a fresh process', async () => {
  const executor = open();
  const error = await failureOf(executor.execute(inputOf('hangs', 300)));
  expect(error.kind).toBe('transient');
  expect(error.message).toContain('passed its deadline');
  expect((await executor.execute(input)).queryRowCount).toBeGreaterThan(0);
  expect(endings()).toEqual(['deadline']);
  expect(events.filter((event) => event.kind === 'ready')).toHaveLength(2);
});

test.each([
  ['exits', 'exit code 7'],
  ['is-killed', 'signal SIGKILL'],
  ['babbles', 'no answer'],
])('a process that %s fails its job and no other', async (runId, found) => {
  const executor = open();
  const failed = failureOf(executor.execute(inputOf(runId)));
  const next = executor.execute(input);
  const error = await failed;
  expect(error.kind).toBe('transient');
  expect(error.message).toContain(found);
  expect((await next).queryRowCount).toBeGreaterThan(0);
});

test('an abort kills the process and says so', async () => {
  const executor = open();
  const abort = new AbortController();
  const failed = failureOf(executor.execute(inputOf('hangs'), abort.signal));
  abort.abort();
  expect((await failed).kind).toBe('interrupted');
});

test('what the child refuses arrives as its report and leaves the process alive', async () => {
  const executor = open();
  const wrong = { ...input, rowPack: input.dense };
  const error = await failureOf(executor.execute(wrong));
  expect(error.kind).toBe('data');
  expect(error.report.found).toContain('rows is missing');
  await executor.execute(input);
  expect(endings()).toEqual([]);
});

test('after close nothing runs and nothing is accepted', async () => {
  const executor = open();
  await executor.execute(input);
  await executor.close();
  expect(endings()).toEqual(['closed']);
  expect((await failureOf(executor.execute(input))).kind).toBe('interrupted');
});

test('a missing build is named with its cure', async () => {
  const executor = createComputeProcess({ clock: systemClock, entry: '/no/such/main.js' });
  const error = await failureOf(executor.execute(input));
  expect(error.kind).toBe('environment');
  expect(error.report.cure).toContain('npm run build');
});

test('the real entry says what it computes on', async () => {
  const { isNative, description } = await describeComputeBackend();
  expect(description).toMatch(isNative ? /TensorFlow \d/ : /wasm|cpu/);
});
