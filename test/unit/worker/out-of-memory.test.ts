// Out of memory: the micro-batch is halved, the job is repeated, and the smaller bound is
// remembered.

import { expect, test } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  createMicroBatchMemory,
  isOutOfMemory,
  type HalvedMicroBatch,
} from '../../../worker/compute/device/out-of-memory.js';

const oom = (): Error =>
  new Error(
    'Invalid TF_Status: 8\nMessage: OOM when allocating tensor with shape[2000000,2000000] and ' +
      'type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc',
  );

/** A device that holds `rowCountHeld` rows, and a record of its requests. */
function device(rowCountHeld: number): {
  asked: number[];
  warnings: HalvedMicroBatch[];
  compute: (rowsMax: number) => string;
} {
  const asked: number[] = [];
  const compute = (rowsMax: number): string => {
    asked.push(rowsMax);
    if (rowsMax > rowCountHeld) throw oom();
    return `computed by ${rowsMax}`;
  };
  return { asked, warnings: [], compute };
}

const terms = { workName: 'mlp fomaml', rowsMax: 1000, rowsMin: 50 };

test('without failures the bound of the job is used and nothing is reported', () => {
  const { asked, warnings, compute } = device(5000);
  const memory = createMicroBatchMemory((halved) => warnings.push(halved));
  expect(memory.run(terms, compute)).toBe('computed by 1000');
  expect(asked).toEqual([1000]);
  expect(warnings).toEqual([]);
});

test('halves until it fits, reports each step with old and new size, and remembers the bound', () => {
  const { asked, warnings, compute } = device(300);
  const memory = createMicroBatchMemory((halved) => warnings.push(halved));
  expect(memory.run(terms, compute)).toBe('computed by 250');
  expect(memory.run(terms, compute)).toBe('computed by 250');
  expect(asked).toEqual([1000, 500, 250, 250]);
  expect(warnings).toHaveLength(2);
  expect(warnings).toMatchObject([
    { rowsMax: 1000, smallerRowsMax: 500 },
    {
      ...{ rowsMax: 500, smallerRowsMax: 250 },
      reason: expect.stringContaining('OOM when allocating tensor') as string,
    },
  ]);
});

test('work with another name, and a job with a smaller bound, keep their own bound', () => {
  const { asked, compute } = device(300);
  const memory = createMicroBatchMemory(() => undefined);
  memory.run(terms, compute);
  expect(memory.run({ ...terms, rowsMax: 100 }, compute)).toBe('computed by 100');
  memory.run({ ...terms, workName: 'mlp predict', rowsMax: 280 }, compute);
  expect(asked.slice(3)).toEqual([100, 280]);
});

test('the last try computes every task alone; after that it is an environment error with a cure', () => {
  const { asked, compute } = device(10);
  const memory = createMicroBatchMemory(() => undefined);
  let found: unknown;
  try {
    memory.run({ ...terms, rowsMin: 200 }, compute);
  } catch (error) {
    found = error;
  }
  expect(asked).toEqual([1000, 500, 250, 200]);
  if (!(found instanceof QianmoError)) throw new Error('no QianmoError');
  expect(found.exitCode).toBe(3);
  expect(found.report.found).toContain('OOM when allocating tensor');
  expect(found.report.cure).toContain('supportRowsMax');
});

test('also ends when the smallest bound is unknown', () => {
  const { asked, compute } = device(0);
  const memory = createMicroBatchMemory(() => undefined);
  expect(() => memory.run({ ...terms, rowsMax: 5, rowsMin: 0 }, compute)).toThrow(QianmoError);
  expect(asked).toEqual([5, 2, 1]);
});

test('other errors pass unchanged and immediately', () => {
  const bug = new Error('Invalid TF_Status: 3\nMessage: Incompatible shapes: [2] vs. [3]');
  let callCount = 0;
  const memory = createMicroBatchMemory(() => undefined);
  expect(() =>
    memory.run(terms, () => {
      callCount += 1;
      throw bug;
    }),
  ).toThrow(bug);
  expect(callCount).toBe(1);
});

test.each([
  ['a device allocator', oom(), true],
  ['a captured graph', new Error('RESOURCE_EXHAUSTED: Out of memory while trying'), true],
  ['the driver', new Error('CUDA_ERROR_OUT_OF_MEMORY: out of memory'), true],
  ['V8', new RangeError('Array buffer allocation failed'), true],
  ['a wrong shape', new Error('Invalid TF_Status: 3\nMessage: shapes differ'), false],
  ['TF_Status 80 of a later TensorFlow', new Error('Invalid TF_Status: 80'), false],
  ['a report of our own', new QianmoError({ kind: 'data', what: 'out of memory' }), false],
  ['what is no error', 'OOM when allocating', false],
])('recognises an out-of-memory error reported by %s', (_, error, expected) => {
  expect(isOutOfMemory(error)).toBe(expected);
});
