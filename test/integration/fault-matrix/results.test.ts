/**
 * Results that are wrong, late or doubled. The loop of the worker is in this process, so that the test can change what
 * it hands in.
 */

import { createSecretKey } from 'node:crypto';
import { expect } from 'vitest';
import type { JobExecutor, JobOutput } from '../../../shared/queue/job-executor.js';
import type { JobQueue } from '../../../shared/queue/job-queue.js';
import type { JobResult } from '../../../shared/queue/protocol.js';
import {
  partedRecord,
  signatureOf,
  signedJobQueue,
  signingKeyOf,
} from '../../../shared/queue/signed-job-queue.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { expectExclusion, cell, FaultScene } from '../../fixtures/faults/fault-scene.js';
import { openedOnce } from '../../fixtures/opened.js';
import { tasksOfJob } from '../../fixtures/queue/tasks-of-job.js';
import { executorForTest } from '../../conformance/dispatcher.js';

const scene = openedOnce(() => FaultScene.open());

const KEY_TEXT = '0123456789abcdef0123456789abcdef';

/** An executor that changes its first output. */
function changingFirst(change: (output: JobOutput) => JobOutput): JobExecutor {
  let count = 0;
  return executorForTest(async (...call) => {
    count += 1;
    const isFirst = count === 1;
    const output = await scene.executor.execute(...call);
    return isFirst ? change(output) : output;
  });
}

type ChangedResult = (result: JobResult, jobId: string) => JobResult;

/** A queue whose first result is changed. */
function changingFirstResult(queue: JobQueue, change: ChangedResult): JobQueue {
  let isFirst = true;
  return changingResults(queue, (result, jobId) => {
    const changes = isFirst;
    isFirst = false;
    return changes ? change(result, jobId) : result;
  });
}

/** A queue whose results are changed on their way. */
function changingResults(queue: JobQueue, change: ChangedResult): JobQueue {
  return {
    ...queue,
    openConsumer: (options) =>
      queue.openConsumer({
        ...options,
        process: async (job, lost) => {
          const outcome = await options.process(job, lost);
          if (outcome.kind !== 'completed') return outcome;
          return { ...outcome, result: change(outcome.result, job.jobId) };
        },
      }),
  };
}

function changedValues(
  output: JobOutput,
  change: (values: Float32Array) => Float32Array,
): JobOutput {
  const tensors = decodeTensors(output.output, 'gradient');
  const changed = [...tensors].map(([name, { shape, values }]) => {
    if (!(values instanceof Float32Array)) throw new Error('gradients are float32');
    const others = change(values);
    const isOfShape = others.length === values.length;
    return [name, { shape: isOfShape ? shape : [others.length], values: others }] as const;
  });
  return { ...output, output: encodeTensors(new Map(changed)) };
}

/** The first value of a tensor becomes a NaN. */
function withNaN(output: JobOutput, name: string): JobOutput {
  const tensors = decodeTensors(output.output, 'test');
  tensors.get(name)?.values.fill(NaN, 0, 1);
  return { ...output, output: encodeTensors(tensors) };
}

const CHANGES: readonly (readonly [string, (output: JobOutput) => JobOutput])[] = [
  [
    'whose bytes are no tensors',
    (output) => ({ ...output, output: output.output.map((byte) => byte ^ 0xff) }),
  ],
  [
    'cut short',
    (output) => ({ ...output, output: output.output.subarray(0, output.output.length >> 1) }),
  ],
  ['with a loss of NaN', (output) => withNaN(output, 'losses.query')],
  ['with gradients of NaN', (output) => withNaN(output, '0.dense')],
  [
    'with twice as many values',
    (output) => changedValues(output, (values) => Float32Array.from([...values, ...values])),
  ],
];

for (const [phase, change] of CHANGES)
  cell('result', phase, async (name) => {
    const run = await scene.coordinatorHere(name);
    await scene.workerHere(name, { executor: changingFirst(change) });
    const { diagnostics } = await scene.expectDigest(run);
    expect(diagnostics).toMatch(/is tried again: /);
  });

const ENDINGS: readonly (readonly [string, (result: JobResult) => object])[] = [
  ['of another protocol version', () => ({ protocolVersion: 2 })],
  ['forged for another job', ({ jobIndex }) => ({ jobIndex: jobIndex + 1 })],
  ['forged for another run', () => ({ runId: 'another' })],
  [
    'that names a blob that is not there',
    ({ output }) => ({ output: { ...output, sha256: '0'.repeat(64) } }),
  ],
];

for (const [phase, changes] of ENDINGS)
  cell('result', phase, async (name) => {
    const run = await scene.coordinatorHere(name);
    const queue = changingFirstResult(
      scene.queue(name),
      // The types rule out what a forger sends.
      (result) => ({ ...result, ...changes(result) }),
    );
    await scene.workerHere(name, { queue });
    const { diagnostics } = await scene.expectDigest(run);
    expect(diagnostics).toMatch(/is tried again: /);
  });

const key = await signingKeyOf({ QIANMO_SIGNING_KEY: KEY_TEXT });
const SIGNED_RUN = { environment: { QIANMO_SIGNING_KEY: KEY_TEXT } };

/** What a worker hands in instead of its second result of the run, which has been signed. */
const FORGERIES: readonly (readonly [
  string,
  (result: JobResult, jobId: string, first: JobResult) => JobResult,
])[] = [
  ['without a signature', (result) => ({ ...result, signature: undefined })],
  [
    'signed with another key',
    (result, jobId) => {
      const { record } = partedRecord(result);
      const another = createSecretKey('another key', 'utf8');
      return { ...result, signature: signatureOf(record, { kind: 'result', jobId }, another) };
    },
  ],
  ['that was handed in at an earlier outer step', (_result, _jobId, first) => first],
];

for (const [phase, forgery] of FORGERIES)
  cell('result of a signed run', phase, async (name) => {
    const run = await scene.coordinatorHere(name, SIGNED_RUN);
    let first: JobResult | null = null;
    let isForged = false;
    const queue = changingResults(scene.queue(name), (result, jobId) => {
      first ??= result;
      const forges = !isForged && result.outerStep > first.outerStep;
      isForged ||= forges;
      return forges ? forgery(result, jobId, first) : result;
    });
    await scene.workerHere(name, { queue: signedJobQueue(queue, key) });
    const { diagnostics } = await scene.expectDigest(run);
    expect(diagnostics).toMatch(
      /is tried again: the (result|signature of the result) of worker here/,
    );
  });

cell(
  'job of a signed run',
  'before a worker without its key, beside one that has it',
  async (name) => {
    const run = await scene.coordinatorHere(name, SIGNED_RUN);
    await scene.workerHere(name, {
      queue: signedJobQueue(scene.queue(name), null),
    });
    await run.saw(/refuses the jobs of this run .*has no key/);
    await scene.workerHere(name, {
      queue: signedJobQueue(scene.queue(name), key),
    });
    await scene.expectDigest(run);
  },
);

cell('poison task', 'that fails wherever it is computed', async (name) => {
  let poison = -1;
  const executor = executorForTest(async (input, ...rest) => {
    if (poison < 0) poison = tasksOfJob(input.job)[1] ?? -1;
    if (tasksOfJob(input.job).includes(poison)) throw new Error('the poison works');
    return scene.executor.execute(input, ...rest);
  });
  const run = await scene.coordinatorHere(name, { queue: { jobAttemptsMax: 2 } });
  await scene.workerHere(name, { executor });
  await expectExclusion(run, { exitCode: 1, message: /a task makes its job fail/ });
});

cell('sick worker', 'beside a healthy one', async (name) => {
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const failing = executorForTest(() => Promise.reject(full));
  const run = await scene.coordinatorHere(name, { queue: { jobAttemptsMax: 1 } });
  await scene.workerHere(name, { executor: failing });
  await run.saw(/is sick and takes no job/);
  await scene.workerHere(name);
  await scene.expectDigest(run);
});
