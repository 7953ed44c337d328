/** Which processes count as ended, and which cannot be seen from here. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { livenessOf, thisProcess } from '../../../shared/storage/process-identity.js';

const self = thisProcess();

it('this process runs, and has a start time of its own', () => {
  expect(livenessOf(self)).toBe('runs');
  expect(self.startTicks).toMatch(/^\d+$/);
  expect(livenessOf({ ...self, startTicks: '1' })).toBe('ended');
});

it('another process runs until it ends', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ');
  const identity = { ...self, pid: child.pid!, startTicks: fields?.[19] ?? '' };
  expect(livenessOf(identity)).toBe('runs');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(livenessOf(identity)).toBe('ended');
});

it('a process that has ended and was not yet collected has ended', async () => {
  // The shell starts a process that ends at once, and becomes a program that never collects it.
  const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  const fields = (): string[] =>
    readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  while (fields()[0] !== 'Z') await new Promise((resolve) => setImmediate(resolve));
  expect(livenessOf({ ...self, pid, startTicks: fields()[19] ?? '' })).toBe('ended');
  parent.kill('SIGKILL');
  await once(parent, 'exit');
});

it.each([
  ['machine', { host: 'elsewhere' }],
  ['PID namespace', { pidNamespace: 'pid:[1]' }],
  ['start of the machine', { boot: 'another' }],
])('a process of another %s is unknown, also where its number is in use here', (_, changes) => {
  expect(livenessOf({ ...self, ...changes })).toBe('unknown');
  expect(livenessOf({ ...self, ...changes, pid: 2 ** 22 + 1 })).toBe('unknown');
});
