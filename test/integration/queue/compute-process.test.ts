// The compute process as its parent sees it: answers, deadlines, crashes, jobs ahead. Forks a compiled entry that
// loads no tensor library; the real one is in real-compute-process.test.ts.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { JobExecutor, JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import {
  ComputeChild,
  createComputeProcess,
  type ComputeEvent,
  type ComputeExecutor,
  type ComputeProcessOptions,
} from '../../../worker/process/compute-process.js';
import { forkedEntry } from '../../../worker/process/forked-entry.js';
import { failureOf } from '../../fixtures/failures.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { codeOf } from '../../fixtures/told.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);

let events: ComputeEvent[] = [];
const opened: JobExecutor[] = [];
let kept: ComputeExecutor | null = null;
let onReport = (_: ComputeEvent): void => undefined;
const create = (options: Partial<ComputeProcessOptions> = {}): ComputeExecutor => {
  const onEvent = (event: ComputeEvent): void => {
    events.push(event);
    onReport(event);
  };
  const { env: environment } = process;
  return createComputeProcess({ clock: systemClock, entry, environment, onEvent, ...options });
};
const open = (options?: Partial<ComputeProcessOptions>): ComputeExecutor => {
  events = [];
  const executor = create(options);
  opened.push(executor);
  return executor;
};
/** For tests that lose no other process than one they ask to fail. */
const shared = (): ComputeExecutor => {
  events = [];
  return (kept ??= create());
};
/** Resolves with the first event that satisfies the predicate. */
const reported = (isWanted: (event: ComputeEvent) => boolean): Promise<ComputeEvent> =>
  new Promise((resolve) => {
    onReport = (event) => {
      if (isWanted(event)) resolve(event);
    };
  });
const endings = (): (string | null)[] =>
  events.flatMap((event) =>
    event.kind === 'compute-ended' ? [event.endedBecause ?? event.signal] : [],
  );

let input: JobInput;
const inputOf = (runId: string, timeoutMs = 60_000): JobInput => ({
  ...input,
  job: { ...input.job, runId, timeoutMs },
});
/** Other bytes of the same kind of input, which the parent sends only where the process lacks them. */
const withDense = (value: number): JobInput => {
  const dense = Uint8Array.of(value);
  return { ...input, dense, job: { ...input.job, dense: blobRefOf(dense) } };
};
const withFrozen = (value: number): JobInput => {
  const frozen = Uint8Array.of(value);
  return { ...input, frozen, job: { ...input.job, frozen: blobRefOf(frozen) } };
};

beforeAll(async () => {
  expect(existsSync(entry), 'run npm run build first').toBe(true);
  const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  input = await jobInputOf(jobCase, [0, 1, 2], {
    kind: 'gradient',
    method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
    taskWeights: [0.5, 0.25, 0.25],
  });
});
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close();
});
afterAll(() => kept?.close());

const hex = ({ output }: JobOutput): string => Buffer.from(output).toString('hex');

test('a job past its deadline is killed and the next one gets a fresh process', async () => {
  const clock = steppedClock();
  const executor = open({ clock });
  const isLastProgress = reported(({ kind }) => kind === 'backend-portable');
  const failed = failureOf(executor.execute(inputOf('hangs-computing', 3_000)));
  await isLastProgress;
  clock.advance(3_000);
  const error = await failed;
  expect(error.kind).toBe('transient');
  expect(error.message).toContain('passed its deadline');
  expect(error.report.found).toBe('last heard: computing, 3.0 s ago');
  expect(hex(await executor.execute(input))).toHaveLength(64);
  expect(endings()).toEqual(['deadline']);
  expect(events.filter((event) => event.kind === 'compute-ready')).toHaveLength(2);
});

test.each([
  ['exits', 'exit code 7'],
  ['babbles', 'invalid answer'],
  ['answers-another', 'invalid answer'],
])('a process that %s fails its job and no other', async (runId, found) => {
  const executor = shared();
  const failed = failureOf(executor.execute(inputOf(runId)));
  const next = executor.execute(input);
  const error = await failed;
  expect(error.kind).toBe('transient');
  expect(error.message).toContain(found);
  expect(hex(await next)).toHaveLength(64);
});

test.each([
  ['SIGKILL', /memory ran out/],
  ['SIGABRT', /native code aborted/],
  ['SIGTERM', /check whether memory runs out/],
])('a crash by %s costs one job and is reported with its cure', async (signal, cure) => {
  const executor = shared();
  const error = await failureOf(executor.execute(inputOf(`dies-by-${signal}`)));
  expect(error.kind).toBe('transient');
  expect(error.message).toContain(`signal ${signal}`);
  expect(error.report.found).toMatch(/^last heard: micro-batch 3 of 8, /);
  expect(error.report.cure).toMatch(cure);
  expect(hex(await executor.execute(input))).toHaveLength(64);
  expect(endings()).toEqual([signal]);
});

test('a second answer never counts for the next job', async () => {
  const executor = shared();
  expect((await failureOf(executor.execute(inputOf('answers-twice')))).kind).toBe('data');
  // It ends the process, whether it arrives before the next job or during it.
  const next = await executor.execute(input).catch((error: unknown) => error);
  if (next instanceof QianmoError) expect(next.kind).toBe('transient');
  else expect(next).toMatchObject({ queryRowCount: 1 });
  expect(hex(await executor.execute(input))).toHaveLength(64);
  expect(endings()).toEqual(['bad-message']);
});

test.each([
  ['dense', withDense],
  ['frozen', withFrozen],
])('%s inputs are sent again after eviction, and to a fresh process', async (_, inputWith) => {
  const executor = shared();
  const inputs = [1, 2, 3].map(inputWith);
  const outputs: string[] = [];
  for (const turn of [...inputs, ...inputs]) outputs.push(hex(await executor.execute(turn)));
  expect(outputs.slice(3)).toEqual(outputs.slice(0, 3));
  expect(new Set(outputs).size).toBe(3);
  const [first = input] = inputs;
  await failureOf(executor.execute({ ...first, job: { ...first.job, runId: 'exits' } }));
  expect(hex(await executor.execute(first))).toBe(outputs[0]);
});

test('a process that grows is replaced between two jobs, and no job is lost', async () => {
  // Every process is larger, and is replaced after the least number of jobs.
  const executor = open({ computeMemoryByteCountMax: 2 ** 20 });
  const expected = hex(await executor.execute(input));
  for (let job = 0; job < 10; job += 1) expect(hex(await executor.execute(input))).toBe(expected);
  const [replaced] = events.filter((event) => codeOf(event) === 'compute-replaced');
  expect(replaced).toMatchObject({ text: expect.stringMatching(/more than 1 MiB$/) as string });
  expect(endings()).toEqual(['replaced']);
});

test('the process gets the configured environment, and its end before the first job is explained', async () => {
  const environment = { ...process.env, NODE_OPTIONS: '--no-such-option' };
  const error = await failureOf(open({ environment }).execute(input));
  expect(error.message).toContain('exit code 9');
  // Blocks the thread, so that the exit is not noticed before the channel is found broken.
  const forked = forkedEntry({ entry, environment, pluginArguments: [] });
  const child = new ComputeChild({ forked, clock: systemClock, onEvent: () => undefined });
  const state = (): string => readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1] ?? '';
  while (!state().startsWith('Z'));
  const exchange = child.send(
    { kind: 'start', device: 'auto', rowAddon: null },
    { timeoutMs: 60_000, subject: 'the start' },
  );
  expect((await failureOf(child.answerTo(exchange))).message).toContain('exit code 9');
});

test('an abort kills the process and says so', async () => {
  const abort = new AbortController();
  const failed = failureOf(open().execute(inputOf('hangs'), abort.signal));
  abort.abort();
  expect((await failed).kind).toBe('interrupted');
});

test('a refusal of the child arrives as its report and leaves the process alive', async () => {
  const executor = shared();
  expect((await failureOf(executor.execute(inputOf('refused')))).report).toMatchObject({
    ...{ kind: 'data', what: 'no such rows' },
  });
  await executor.execute(input);
  expect(endings()).toEqual([]);
});

test('started ahead of a job, it reports its device once; after close nothing is accepted', async () => {
  const executor = open();
  await executor.start();
  await executor.start();
  await executor.execute(input);
  for (const kind of ['compute-started', 'compute-ready'])
    expect(events.filter((event) => event.kind === kind)).toHaveLength(1);
  await executor.close();
  expect(endings()).toEqual(['closed']);
  expect((await failureOf(executor.execute(input))).kind).toBe('interrupted');
});

test('a missing build is reported with its cure', async () => {
  const error = await failureOf(open({ entry: '/no/such/main.js' }).execute(input));
  expect(error.kind).toBe('environment');
  expect(error.report.cure).toContain('npm run build');
});

// The parent may be any program, so it prints nothing itself.
test('a line on the standard error of a process is an event', async () => {
  const print = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(() => print.mockRestore());
  const line = reported(({ kind }) => kind === 'compute-wrote');
  await open({ environment: { ...process.env, COMPLAINT: 'out of patience' } }).start();
  expect(await line).toMatchObject({ line: 'out of patience' });
  expect(print).not.toHaveBeenCalled();
});

describe('a job of another instruction set', () => {
  test('gets a process of its own, and so does the next one', async () => {
    const executor = open();
    const fingerprints: string[] = [];
    for (const portable of [false, false, true, false]) {
      const next = { ...input, job: { ...input.job, portable } };
      executor.prepare(next);
      fingerprints.push((await executor.execute(next)).fingerprint);
    }
    const [plain, same, other, last] = fingerprints;
    expect([same, last]).toEqual([plain, plain]);
    expect(other).not.toBe(plain);
    expect(endings()).toEqual(['other-instructions', 'other-instructions']);
  });

  test('is refused by a worker that demands a GPU', async () => {
    const next = { ...input, job: { ...input.job, portable: true } };
    const error = await failureOf(open({ device: 'gpu' }).execute(next));
    expect(error.report).toMatchObject({ kind: 'environment', isOfThisMachine: true });
  });
});

describe('a job ahead', () => {
  /** Begins a job; its request has been sent when this returns. */
  async function begun(executor: ComputeExecutor): Promise<{ done: Promise<JobOutput> }> {
    await executor.start();
    const done = executor.execute(input);
    // The request is sent when earlier turns have ended, which takes no message.
    await new Promise((resolve) => setImmediate(resolve));
    return { done };
  }

  test('begins before anybody waits for it, and its answer is kept', async () => {
    const executor = shared();
    const { done } = await begun(executor);
    const hasBegun = reported((event) => event.kind === 'job-progress' && event.runId === 'ahead');
    const ahead = inputOf('ahead');
    executor.prepare(ahead);
    const expected = hex(await done);
    await hasBegun;
    expect(hex(await executor.execute(ahead))).toBe(expected);
    expect(endings()).toEqual([]);
  });

  test('does not begin when it is taken back, and one that has begun is not answered', async () => {
    const executor = open();
    await executor.start();
    executor.prepare(inputOf('exits'));
    executor.prepare(null);
    const { done } = await begun(executor);
    executor.prepare(inputOf('begun'));
    executor.prepare(null);
    await done;
    for (const name of ['next', 'last'])
      expect(hex(await executor.execute(inputOf(name)))).toHaveLength(64);
    expect(endings()).toEqual([]);
  });

  test('changes no result, in any order of jobs, and survives a crash before it', async () => {
    const executor = shared();
    const inputs = [1, 2, 3].map(withDense);
    const alone: string[] = [];
    for (const each of inputs) alone.push(hex(await executor.execute(each)));
    const ahead: string[] = [];
    for (const [place, each] of inputs.entries()) {
      const computed = executor.execute(each);
      // The second hint names a job that does not come next.
      executor.prepare(place === 1 ? input : (inputs[place + 1] ?? input));
      ahead.push(hex(await computed));
    }
    expect(ahead).toEqual(alone);
    const failed = failureOf(executor.execute(inputOf('exits')));
    await Promise.resolve();
    const next = inputOf('next');
    executor.prepare(next);
    const computed = executor.execute(next);
    expect((await failed).kind).toBe('transient');
    expect(hex(await computed)).toHaveLength(64);
  });
});
