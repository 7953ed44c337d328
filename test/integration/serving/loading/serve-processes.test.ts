/** `qianmo serve --processes`: one port, and a process that is killed loses its own connections alone. */

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../../shared/base/clock.js';
import { moveLabel } from '../../../../shared/bundle/bundle-store.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { startCommand } from '../../../fixtures/commands/command.js';
import { stopped } from '../../../fixtures/faults/processes.js';
import { serveCommand } from '../../../fixtures/serving/served-command.js';
import { twoBundles, type TwoBundles } from '../../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../../fixtures/temporary-folder.js';
import { openedOnce } from '../../../fixtures/opened.js';
import { checkedScore } from '../../../fixtures/serving/mapped-server.js';

const TWO = ['--processes', '2'];

const room = openedOnce(temporaryFolder);
let bundles: TwoBundles;
beforeAll(async () => {
  bundles = await twoBundles(new FileObjectStore({ folder: room.path }));
});

async function childrenOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.trim().split(' ').map(Number);
}

interface Health {
  readonly processes: { readonly place: number; readonly wanted: number; readonly ready: number };
}

async function healthOf(url: string): Promise<Health['processes']> {
  // A connection of its own, which the parent hands to the next process.
  const answer = await fetch(`${url}/health/ready`, { headers: { connection: 'close' } });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as Health).processes;
}

const scored = (url: string): Promise<string> =>
  checkedScore(url, bundles, { connection: 'close' });

test('two processes answer, one that is killed is started again, and both follow the label', async () => {
  const options = [...TWO, '--poll-seconds', '0.1'];
  const { command, url, stop } = await serveCommand(room.path, room.path, options);
  const places = await Promise.all(Array.from({ length: 8 }, () => healthOf(url)));
  expect(new Set(places.map(({ place }) => place))).toEqual(new Set([0, 1]));
  expect(places[0]).toMatchObject({ wanted: 2, ready: 2 });

  const [victim] = await childrenOf(command.pid);
  process.kill(victim!, 'SIGKILL');
  await command.saw(new RegExp(`pid ${victim}\\) ended with SIGKILL; it is started again`));
  // The other one answers meanwhile.
  for (let request = 0; request < 10; request += 1)
    expect(await scored(url)).toBe(bundles.digests[0]);
  while ((await healthOf(url)).ready < 2);

  await moveLabel(new FileObjectStore({ folder: room.path }), 'latest', bundles.digests[1]);
  await command.saw(/(serving bundle \w+ in place of[^]*){2}/);
  for (let request = 0; request < 10; request += 1)
    expect(await scored(url)).toBe(bundles.digests[1]);
  await stop();
});

test('the port stays the same if one ends while the other is being started again', async () => {
  const { command, url, stop } = await serveCommand(room.path, room.path, TWO);
  const [first, second] = await childrenOf(command.pid);
  process.kill(first!, 'SIGKILL');
  await command.saw(new RegExp(`pid ${first}\\) ended with SIGKILL`));
  let again: number | undefined;
  while (again === undefined)
    again = (await childrenOf(command.pid)).find((pid) => ![first, second].includes(pid));
  // Until it runs its own program, its parent waits for it.
  while (!(await readFile(`/proc/${again}/cmdline`, 'utf8')).includes('serving-process'));
  // It is not ready yet.
  await stopped(again);
  process.kill(second!, 'SIGKILL');
  await command.saw(new RegExp(`pid ${second}\\) ended with SIGKILL`));
  process.kill(again, 'SIGCONT');
  const isAnswered = (): Promise<boolean> =>
    scored(url).then(
      () => true,
      () => false,
    );
  while (!(await isAnswered()));
  while ((await healthOf(url)).ready < 2);
  await stop();
}, 60_000);

test('a connection that was handed to a process that stands still goes to the other one when it ends', async () => {
  const { command, url, stop } = await serveCommand(room.path, room.path, TWO);
  const [victim] = await childrenOf(command.pid);
  await stopped(victim!);
  const requests = Array.from({ length: 8 }, () => scored(url));
  let answeredCount = 0;
  for (const request of requests) void request.then(() => (answeredCount += 1));
  // One of them waits for the process that stands still.
  while (answeredCount < requests.length - 1) await systemClock.sleep(5);
  process.kill(victim!, 'SIGKILL');
  expect(new Set(await Promise.all(requests)).size).toBe(1);
  await stop();
}, 60_000);

test('the processes end with their parent, and with them its port', async () => {
  const { command } = await serveCommand(room.path, room.path, TWO);
  const children = await childrenOf(command.pid);
  process.kill(command.pid, 'SIGKILL');
  await command.ended;
  const areThere = (): boolean => children.some((pid) => existsSync(`/proc/${pid}`));
  while (areThere()) await systemClock.sleep(5);
});

test('a port that is taken ends all with the reason', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const words = ['serve', '--bundle', room.path, '--port', String(port), '--processes', '2'];
  const { exitCode, diagnostics } = await startCommand(words, room.path).ended;
  expect(diagnostics).toMatch(/another program listens on this port/);
  expect(exitCode).toBe(3);
  other.close();
});

test('a bundle that is not there ends all with the reason', async () => {
  const words = ['serve', '--bundle', `${room.path}@nothing`, '--port', '0', '--processes', '2'];
  const { exitCode, diagnostics } = await startCommand(words, room.path).ended;
  expect(diagnostics).toMatch(/there is no such bundle/);
  expect(exitCode).toBe(2);
});
