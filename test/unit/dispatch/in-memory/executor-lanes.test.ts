import { describe, expect, it } from 'vitest';
import { ExecutorLanes } from '../../../../coordinator/dispatch/executor-lanes.js';
import { jobOf } from '../../../../coordinator/dispatch/dispatcher.js';
import { at } from '../../../../shared/base/arrays.js';
import type { JobExecutor, JobInput } from '../../../../shared/queue/job-executor.js';
import { blobRefOf } from '../../../../shared/storage/blob-store.js';
import { ordersForTest, outputOf } from '../../../conformance/dispatcher.js';

const INPUTS: readonly JobInput[] = ordersForTest(6).map((order) => ({
  job: jobOf(order, blobRefOf),
  dense: order.dense,
  rowPack: order.rowPack,
  frozen: null,
}));

/** Writes down what it is told, and ends its job when the test says so. */
function heldExecutor(name: string, notes: string[]) {
  let end = (): void => undefined;
  const executor: JobExecutor = {
    execute: (input) => {
      notes.push(`${name} begins ${input.job.jobIndex}`);
      return new Promise((resolve) => (end = () => resolve(outputOf(input))));
    },
    prepare: (input) =>
      notes.push(input === null ? `${name} forgets` : `${name} has ${input.job.jobIndex}`),
    close: () => Promise.resolve(),
  };
  return { executor, end: () => end() };
}

function scene(executorCount: number) {
  const notes: string[] = [];
  const held = Array.from({ length: executorCount }, (_, index) =>
    heldExecutor(at(['A', 'B', 'C'], index), notes),
  );
  const lanes = new ExecutorLanes(held.map(({ executor }) => executor));
  const over = new AbortController();
  const { signal } = new AbortController();
  const execute = (jobIndex: number): Promise<unknown> =>
    lanes.execute({ makeInput: () => at(INPUTS, jobIndex), signal, over: over.signal });
  const end = async (index: number, result: Promise<unknown>): Promise<void> => {
    at(held, index).end();
    await result;
    // The executor is free one turn after its result is there.
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { notes, execute, end, over, lanes, signal };
}

describe('executors that share jobs', () => {
  it('take them in turn, and have the inputs of their next ones', async () => {
    const { notes, execute, end } = scene(2);
    const results = [0, 1, 2, 3, 4].map((jobIndex) => execute(jobIndex));
    expect(notes).toEqual(['A begins 0', 'B begins 1', 'A has 2', 'B has 3']);
    await end(1, at(results, 1));
    expect(notes.slice(4)).toEqual(['B begins 3', 'B has 4']);
    await end(0, at(results, 0));
    expect(notes.slice(6)).toEqual(['A begins 2']);
  });

  it('take a job back from one that is busy when another one is free', async () => {
    const { notes, execute, end } = scene(2);
    const results = [0, 1, 2].map((jobIndex) => execute(jobIndex));
    expect(notes).toEqual(['A begins 0', 'B begins 1', 'A has 2']);
    await end(1, at(results, 1));
    expect(notes.slice(3)).toEqual(['A forgets', 'B begins 2']);
  });

  it('let go of jobs that nobody wants any more', async () => {
    const { notes, execute, end, over, lanes, signal } = scene(1);
    const results = [0, 1, 2].map((jobIndex) => execute(jobIndex));
    over.abort();
    const wanted = lanes.execute({
      makeInput: () => at(INPUTS, 3),
      ...{ signal, over: new AbortController().signal },
    });
    await end(0, at(results, 0));
    expect(notes).toEqual(['A begins 0', 'A has 1', 'A forgets', 'A begins 3']);
    await end(0, wanted);
  });

  it('fail the one job whose inputs cannot be made', async () => {
    const { notes, execute, lanes, signal, over } = scene(1);
    const makeInput = (): JobInput => {
      throw new Error('no memory');
    };
    const failing = lanes.execute({ makeInput, signal, over: over.signal });
    await expect(failing).rejects.toThrow('no memory');
    void execute(1);
    expect(notes).toEqual(['A begins 1']);
  });
});
