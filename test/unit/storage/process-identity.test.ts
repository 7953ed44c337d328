/** Which processes count as ended, and which cannot be seen from here. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import { livenessOf, thisProcess } from '../../../shared/storage/process-identity.js';

const self = thisProcess();

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
  // The shell starts a process, which ends when its input does, and becomes a program that never collects it.
  const parent = spawn('sh', ['-c', 'cat <&3 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
  });
  const output = parent.stdout!;
  const [line] = (await once(output, 'data')) as [Buffer];
  const pid = Number(line.toString());
  const fields = (): string[] =>
    readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));
  // A shell would collect it.
  while (readFileSync(`/proc/${parent.pid}/comm`, 'utf8') !== 'sleep\n') await turn();
  const input = parent.stdio[3];
  if (!(input instanceof Duplex)) throw new Error('the shell has no input');
  input.end();
  while (fields()[0] !== 'Z') await turn();
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
