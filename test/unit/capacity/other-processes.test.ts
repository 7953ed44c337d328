/** The processor time of a process's descendants, from records that the test writes as the kernel does. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OtherProcesses } from '../../../coordinator/capacity/other-processes.js';

let records: string;
beforeEach(() => {
  records = mkdtempSync(join(tmpdir(), 'qianmo-proc-'));
});
afterEach(() => rmSync(records, { recursive: true, force: true }));

/** A process with 10 ms in its own code and 20 ms in the kernel for each tick given. */
function write(pid: number, parent: number, ticks: number): void {
  mkdirSync(join(records, String(pid)), { recursive: true });
  const before = `${pid} (a (strange) name) S ${parent} 1 1 0 -1 0 0 0 0 0`;
  writeFileSync(join(records, String(pid), 'stat'), `${before} ${ticks} ${2 * ticks} 99 99 20 0\n`);
}

test('children and their children count, this process and strangers do not', () => {
  write(1, 0, 1_000);
  write(50, 1, 1_000);
  // A child may have a smaller number than its parent.
  write(7, 60, 1);
  write(60, 50, 2);
  write(61, 50, 4);
  write(70, 1, 1_000);
  const others = new OtherProcesses(50, records);
  expect(others.processorMs()).toBe(7 * 30);
  rmSync(join(records, '61'), { recursive: true });
  expect(others.processorMs()).toBe(3 * 30);
});

test('without records there is no time', () => {
  expect(new OtherProcesses(50, join(records, 'missing')).processorMs()).toBe(0);
});
