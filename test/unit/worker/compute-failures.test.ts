/** The words for the end of a compute process. */

import { expect, test } from 'vitest';
import { endedError, endOf } from '../../../worker/process/compute-failures.js';

test.each<[NodeJS.Signals, RegExp]>([
  ['SIGKILL', /memory ran out/],
  ['SIGABRT', /native code aborted/],
  ['SIGSEGV', /native code crashed/],
  ['SIGBUS', /mapped file was truncated/],
  ['SIGILL', /lacks an instruction/],
  ['SIGFPE', /divided by zero/],
  ['SIGTERM', /check whether memory runs out/],
])('the end by %s has its own cure', (signal, cure) => {
  const { kind, report } = endedError('job 7', { how: endOf(null, signal), signal });
  expect(kind).toBe('transient');
  expect(report.what).toBe(`the compute process ended during job 7: signal ${signal}`);
  expect(report.cure).toMatch(cure);
});

test('an exit names its code', () => {
  expect(endOf(3, null)).toBe('exit code 3');
  expect(endOf(null, null)).toBe('exit code unknown');
});
