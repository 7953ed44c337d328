// The compute process as its parent sees it: answers, deadlines, crashes. Forks compiled code.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { encodeDense, encodeFrozen } from '../../../coordinator/plan/step-orders.js';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { JobExecutor, JobInput } from '../../../shared/queue/job-executor.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import {
  ComputeChild,
  type ComputeEvent,
  createComputeProcess,
  describeDevice,
  type ComputeExecutor,
  type ComputeProcessOptions,
} from '../../../worker/process/compute-process.js';
import { forkedEntry } from '../../../worker/process/forked-entry.js';
import {
  type GradientCaseWork,
  jobCaseOf,
  jobInputOf,
} from '../../fixtures/compute/compute-inputs.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { codeOf } from '../../../test/fixtures/told.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);
const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
const work: GradientCaseWork = {
  kind: 'gradient',
  method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
  taskWeights: [0.5, 0.25, 0.25],
};

let events: ComputeEvent[] = [];
const opened: JobExecutor[] = [];
let kept: ComputeExecutor | null = null;
let onProgressSent = (): void => undefined;
const create = (options: Partial<ComputeProcessOptions> = {}): ComputeExecutor => {
  const onEvent = (event: ComputeEvent): void => {
    events.push(event);
    if (event.kind === 'backend-portable') onProgressSent();
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
/** Resolves when a job that does not end has sent its last progress. */
const progressHeard = (): Promise<void> =>
  new Promise((resolve) => {
    onProgressSent = resolve;
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

beforeAll(async () => {
  expect(existsSync(entry), 'run npm run build first').toBe(true);
  input = await jobInputOf(jobCase, [0, 1, 2], work);
});
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close();
});
afterAll(() => kept?.close());

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

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
});

test('a job past its deadline is killed and the next one gets a fresh process', async () => {
  const executor = open();
  const error = await failureOf(executor.execute(inputOf('hangs', 300)));
  expect(error.kind).toBe('transient');
  expect(error.message).toContain('passed its deadline');
  expect((await executor.execute(input)).queryRowCount).toBeGreaterThan(0);
  expect(endings()).toEqual(['deadline']);
  expect(events.filter((event) => event.kind === 'compute-ready')).toHaveLength(2);
});

test('a deadline error names the last reported progress', async () => {
  const clock = steppedClock();
  const executor = open({ clock });
  const failed = failureOf(executor.execute(inputOf('hangs-computing', 3_000)));
  await progressHeard();
  clock.advance(3_000);
  expect((await failed).report.found).toBe('last heard: computing, 3.0 s ago');
});

test('a loss that is not finite is an answer', async () => {
  const diverged = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  for (const { values } of diverged.meta.dense.values()) values.fill(Number.NaN);
  const answer = await shared().execute(await jobInputOf(diverged, [0, 1, 2], work));
  const losses = decodeTensors(answer.output, 'output');
  expect([...(losses.get('losses.query')?.values ?? [])]).toEqual([NaN, NaN, NaN]);
  expect([...(losses.get('losses.support')?.values ?? [])]).toEqual([NaN, NaN, NaN]);
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
  expect((await next).queryRowCount).toBeGreaterThan(0);
});

test.each([
  ['SIGKILL', /memory ran out/],
  ['SIGABRT', /native code aborted/],
  ['SIGSEGV', /native code crashed/],
  ['SIGBUS', /mapped file was truncated/],
  ['SIGTERM', /check whether memory runs out/],
])('a crash by %s costs one job and is reported with its cure', async (signal, cure) => {
  const executor = shared();
  const error = await failureOf(executor.execute(inputOf(`dies-by-${signal}`)));
  expect(error.kind).toBe('transient');
  expect(error.message).toContain(`signal ${signal}`);
  expect(error.report.found).toMatch(/^last heard: micro-batch 3 of 8, /);
  expect(error.report.cure).toMatch(cure);
  expect((await executor.execute(input)).queryRowCount).toBeGreaterThan(0);
  expect(endings()).toEqual([signal]);
});

test('a second answer never counts for the next job', async () => {
  const executor = shared();
  expect((await failureOf(executor.execute(inputOf('answers-twice')))).kind).toBe('data');
  // It ends the process, whether it arrives before the next job or during it.
  const next = await executor.execute(input).catch((error: unknown) => error);
  if (next instanceof QianmoError) expect(next.kind).toBe('transient');
  else expect(next).toMatchObject({ queryRowCount: expect.any(Number) as number });
  expect((await executor.execute(input)).queryRowCount).toBeGreaterThan(0);
  expect(endings()).toEqual(['bad-message']);
});

test('inputs sent ahead give the same bytes, in any order of jobs', async () => {
  const executor = shared();
  const expected = await executor.execute(input);
  const others = await Promise.all(
    [3, 1, 6].map((first) => jobInputOf(jobCase, [first, first + 1, first + 2], work)),
  );
  const alone: Uint8Array[] = [];
  for (const other of others) alone.push((await executor.execute(other)).output);
  const ahead: Uint8Array[] = [];
  for (const [place, other] of others.entries()) {
    const computed = executor.execute(other);
    // The second hint names a job that does not come next.
    executor.prepare(place === 1 ? input : (others[place + 1] ?? input));
    ahead.push((await computed).output);
  }
  expect(ahead.map(hex)).toEqual(alone.map(hex));
  expect(hex((await executor.execute(input)).output)).toBe(hex(expected.output));
});

test('inputs sent ahead survive the crash of the process they were sent to', async () => {
  const executor = shared();
  await executor.execute(input);
  const failed = failureOf(executor.execute(inputOf('exits')));
  await Promise.resolve();
  const next = inputOf('next');
  executor.prepare(next);
  const computed = executor.execute(next);
  expect((await failed).kind).toBe('transient');
  expect((await computed).queryRowCount).toBeGreaterThan(0);
});

test('dense inputs beyond the number that is kept are sent again', async () => {
  const executor = shared();
  const inputs = await Promise.all(
    [1, 2, 3].map((seed) =>
      jobInputOf(
        jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] }, seed),
        [0, 1, 2],
        work,
      ),
    ),
  );
  const outputs: string[] = [];
  for (const turn of [...inputs, ...inputs])
    outputs.push(hex((await executor.execute(turn)).output));
  expect(outputs.slice(3)).toEqual(outputs.slice(0, 3));
  expect(new Set(outputs).size).toBe(3);
});

test('frozen inputs are sent again after eviction, and to a fresh process', async () => {
  const executor = shared();
  const inputs = [1, 2, 3].map((seed) => frozenInputOf(seed));
  const outputs: string[] = [];
  for (const turn of [...inputs, ...inputs])
    outputs.push(hex((await executor.execute(turn)).output));
  expect(outputs.slice(3)).toEqual(outputs.slice(0, 3));
  expect(new Set(outputs).size).toBe(3);
  const [first = input] = inputs;
  await failureOf(executor.execute({ ...first, job: { ...first.job, runId: 'exits' } }));
  expect(hex((await executor.execute(first)).output)).toBe(outputs[0]);
});

/** Only the output layer learns. */
function frozenInputOf(seed: number): JobInput {
  const { meta, model, store } = jobCaseOf(tinyTaskStore(), jobCase.model, seed);
  const spec = modelSpecOf(model, store.manifest.features, work.method, ['output']);
  const dense = encodeDense(meta, spec.learned.variables);
  const frozen = encodeFrozen(meta, spec, 1e6);
  if (frozen?.holdsTables !== true) throw new Error('the tables are frozen');
  const { rowPack: _pack, work: whole, ...job } = input.job;
  if (whole.kind !== 'gradient') throw new Error('expected a gradient job');
  const learned = { variables: [...spec.learned.variables], tables: [] };
  return {
    job: {
      ...job,
      dense: blobRefOf(dense),
      frozen: blobRefOf(frozen.bytes),
      work: { ...whole, learned },
    },
    ...{ dense, rowPack: null, frozen: frozen.bytes },
  };
}

test('a process that grows is replaced between two jobs, and no job is lost', async () => {
  const executor = open({ computeMemoryByteCountMax: 512 * 2 ** 20 });
  const expected = await executor.execute(input);
  for (let job = 0; job < 20; job += 1)
    expect(hex((await executor.execute(inputOf('grows'))).output)).toBe(hex(expected.output));
  const replaced = events.filter((event) => codeOf(event) === 'compute-replaced');
  expect(replaced.length).toBeGreaterThanOrEqual(1);
  expect(replaced[0]).toMatchObject({
    text: expect.stringMatching(/more than 512 MiB$/) as string,
  });
  expect(new Set(endings())).toEqual(new Set(['replaced']));
  expect(endings().length).toBeLessThanOrEqual(2);
});

test('the process gets the configured environment variables', async () => {
  const entryOf = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2', NODE_OPTIONS: '--no-such-option' };
  const error = await failureOf(open({ environment: entryOf }).execute(input));
  expect(error.message).toContain('exit code 9');
});

const START = { kind: 'start', backend: 'auto', device: 'auto' } as const;

test('a process that ended before its first job reports the cause', async () => {
  const terms = { entry, environment: { NODE_OPTIONS: '--no-such-option' } };
  const forked = forkedEntry({ ...terms, pluginArguments: [], backend: 'auto' });
  const child = new ComputeChild({ forked, clock: systemClock, onEvent: () => undefined });
  // Blocks the thread, so that the exit is not noticed before the channel is found broken.
  const state = (): string => readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1] ?? '';
  while (!state().startsWith('Z'));
  const started = child.answerTo(
    child.send(
      { ...START, storeCacheByteCountMax: 1, rowAddon: null },
      { timeoutMs: 60_000, subject: 'the start' },
    ),
  );
  expect((await failureOf(started)).message).toContain('exit code 9');
});

test('an abort kills the process and says so', async () => {
  const executor = open();
  const abort = new AbortController();
  const failed = failureOf(executor.execute(inputOf('hangs'), abort.signal));
  abort.abort();
  expect((await failed).kind).toBe('interrupted');
});

test('a refusal of the child arrives as its report and leaves the process alive', async () => {
  const executor = shared();
  const wrong = { ...input, rowPack: input.dense };
  const error = await failureOf(executor.execute(wrong));
  expect(error.kind).toBe('data');
  expect(error.report.found).toContain('rows is missing');
  await executor.execute(input);
  expect(endings()).toEqual([]);
});

test('a wrong or missing store is reported as a fault of this machine', async () => {
  const { job } = input;
  const another = { ...job, store: { ...job.store, digest: 'another' } };
  const stale = await failureOf(shared().execute({ ...input, job: another }));
  expect(stale.report).toMatchObject({ kind: 'data', isOfThisMachine: true });
  expect(stale.report.expected).toBe('manifest digest another');
  const real = createComputeProcess({ clock: systemClock, environment: process.env });
  opened.push(real);
  const nowhere = { ...job, store: { ...job.store, address: 'file:///no/such/store' } };
  const missing = await failureOf(real.execute({ ...input, job: nowhere }));
  expect(missing.message).toContain('there is no task store');
  expect(missing.report).toMatchObject({ kind: 'data', isOfThisMachine: true });
});

test('after close nothing runs and nothing is accepted', async () => {
  const executor = open();
  await executor.execute(input);
  await executor.close();
  expect(endings()).toEqual(['closed']);
  expect((await failureOf(executor.execute(input))).kind).toBe('interrupted');
});

test('a missing build is reported with its cure', async () => {
  const executor = open({ entry: '/no/such/main.js' });
  const error = await failureOf(executor.execute(input));
  expect(error.kind).toBe('environment');
  expect(error.report.cure).toContain('npm run build');
});

test('the real entry reports its device', async () => {
  const { isNative, backend } = await describeDevice({
    clock: systemClock,
    environment: process.env,
  });
  expect(backend).toMatch(isNative ? /TensorFlow \d/ : /wasm|cpu/);
});

test('started ahead of a job, it reports its device once', async () => {
  const executor = open();
  await executor.start();
  await executor.start();
  const ready = events.flatMap((event) => (event.kind === 'compute-ready' ? [event.device] : []));
  expect(ready).toHaveLength(1);
  await executor.execute(input);
  expect(events.filter((event) => event.kind === 'compute-started')).toHaveLength(1);
});

test('a GPU that the process may not see is refused at the start, and by a job that requires it', async () => {
  const environment = { ...process.env, CUDA_VISIBLE_DEVICES: '-1' };
  const demanding = createComputeProcess({ clock: systemClock, entry, environment, device: 'gpu' });
  opened.push(demanding);
  const error = await failureOf(demanding.start());
  expect(error.kind).toBe('environment');
  expect(error.report.found).toContain('no GPU that this process may see');
  const content = createComputeProcess({ clock: systemClock, entry, environment });
  opened.push(content);
  const job = { ...input.job, device: 'gpu' as const };
  const refusal = await failureOf(content.execute({ ...input, job }));
  expect(refusal.report).toMatchObject({ kind: 'environment', isOfThisMachine: true });
  await content.execute(input);
});
