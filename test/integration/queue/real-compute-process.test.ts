// The real compute process, with TensorFlow. It handles a signal while it computes, as Ctrl-C sends one to all
// processes of a terminal. Seen to fail without `signals.cc`: the process died of a corrupted heap.

import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import type { JobInput } from '../../../shared/queue/job-executor.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';
import {
  createComputeProcess,
  type ComputeExecutor,
} from '../../../worker/process/compute-process.js';
import {
  jobCaseOf,
  jobInputOf,
  type GradientCaseWork,
  type JobCase,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const HANDLER = `--import=data:text/javascript,process.on('SIGUSR2',()=>{})`;
const work: GradientCaseWork = {
  kind: 'gradient',
  method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
  taskWeights: [0.5, 0.25, 0.25],
};

/** A job that brings its rows, since no folder has its store. */
async function inputFor(jobCase: JobCase): Promise<JobInput> {
  const { features } = jobCase.store.manifest;
  const tasks = await jobCase.store.readTasks([0, 1, 2]);
  return { ...(await jobInputOf(jobCase, [0, 1, 2], work)), given: { features, tasks } };
}

/** Returns whether the process has a handler for SIGUSR2, which is signal 12; Node itself has none. */
function handlesSignal(pid: number): boolean {
  const [, mask = '0'] =
    /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${mask}`) & (1n << 11n)) !== 0n;
}

test('signals change no bit of a result and end no process, and faults are answers', async () => {
  const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  const input = await inputFor(jobCase);
  const started: number[] = [];
  const ended: unknown[] = [];
  const create = (): ComputeExecutor =>
    createComputeProcess({
      clock: systemClock,
      environment: { ...process.env, NODE_OPTIONS: HANDLER },
      onEvent: (event) => {
        if (event.kind === 'compute-started') started.push(event.pid);
        if (event.kind === 'compute-ended') ended.push(event.signal);
      },
    });
  const undisturbed = create();
  const expected = await undisturbed.execute(input);
  await undisturbed.close();
  ended.length = 0;

  const executor = create();
  const over = new AbortController();
  const executing = executor.execute(input).finally(() => over.abort());
  let signalCount = 0;
  while (!over.signal.aborted) {
    const pid = started[1];
    if (pid !== undefined && ended.length === 0 && handlesSignal(pid)) {
      process.kill(pid, 'SIGUSR2');
      signalCount += 1;
    }
    await setImmediate();
  }
  const { output } = await executing;
  expect(signalCount).toBeGreaterThan(100);
  expect(Buffer.from(output).equals(Buffer.from(expected.output))).toBe(true);

  const diverged = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  for (const { values } of diverged.meta.dense.values()) values.fill(Number.NaN);
  const answer = await executor.execute(await inputFor(diverged));
  const losses = decodeTensors(answer.output, 'output');
  expect([...(losses.get('losses.query')?.values ?? [])]).toEqual([NaN, NaN, NaN]);

  const { given: _, ...stored } = input;
  const store = { ...input.job.store, address: 'file:///no/such/store' };
  await expect(executor.execute({ ...stored, job: { ...input.job, store } })).rejects.toMatchObject(
    { report: { kind: 'data', isOfThisMachine: true } },
  );
  expect(ended).toEqual([]);
  await executor.close();
});
