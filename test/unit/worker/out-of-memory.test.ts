// A device with too little memory refuses its job, so that another machine computes it.

import { expect, test } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { refusingOutOfMemory } from '../../../worker/compute/job/create-executor.js';

const oom = (): Error =>
  new Error(
    'Invalid TF_Status: 8\nMessage: OOM when allocating tensor with shape[2000000,2000000] and ' +
      'type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc',
  );

/** Fails with the error, and counts the attempts. */
function failing(error: Error): { compute: () => never; attemptCount: () => number } {
  let attemptCount = 0;
  const compute = (): never => {
    attemptCount += 1;
    throw error;
  };
  return { compute, attemptCount: () => attemptCount };
}

function thrownBy(compute: () => unknown): unknown {
  try {
    compute();
  } catch (error) {
    return error;
  }
  throw new Error('expected an error');
}

test('too little memory is an error of this machine with a cure, after one attempt', () => {
  const device = failing(oom());
  const found = thrownBy(() => refusingOutOfMemory(device.compute));
  expect(device.attemptCount()).toBe(1);
  if (!(found instanceof QianmoError)) throw new Error('no QianmoError');
  expect(found.kind).toBe('environment');
  expect(found.report.isOfThisMachine).toBe(true);
  expect(found.exitCode).toBe(3);
  expect(found.report.found).toContain('OOM when allocating tensor');
  expect(found.report.cure).toContain('training.microBatchRowsMax');
});

test.each([
  ['a device allocator', oom(), true],
  ['a captured graph', new Error('RESOURCE_EXHAUSTED: Out of memory while trying'), true],
  ['the driver', new Error('CUDA_ERROR_OUT_OF_MEMORY: out of memory'), true],
  ['V8', new RangeError('Array buffer allocation failed'), true],
  ['a wrong shape', new Error('Invalid TF_Status: 3\nMessage: shapes differ'), false],
  ['TF_Status 80 of a later TensorFlow', new Error('Invalid TF_Status: 80'), false],
  ['a report of our own', new QianmoError({ kind: 'data', what: 'out of memory' }), false],
])('recognises an out-of-memory error reported by %s', (_, error, expected) => {
  const found = thrownBy(() => refusingOutOfMemory(failing(error).compute));
  expect(found === error).toBe(!expected);
});
