/** Ten thousand connections that were answered and are kept, and hundreds whose bodies do not come, keep nobody waiting. */

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { beforeAll, expect, test } from 'vitest';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { serveCommand, type ServedCommand } from '../../../fixtures/serving/served-command.js';
import {
  exportTwoBundles,
  openRequest,
  posted,
  RANKED,
} from '../../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../../fixtures/temporary-folder.js';
import { openedOnce } from '../../../fixtures/opened.js';

const IDLE_COUNT = 10_000;
const OPENED_AT_ONCE = 200;
const SLOW_COUNT = 200;

const room = openedOnce(temporaryFolder);
let served: ServedCommand;
beforeAll(async () => {
  await exportTwoBundles(new FileObjectStore({ folder: room.path }));
  served = await serveCommand(room.path, room.path);
});

/** A connection with an answered request, which the server keeps. */
async function kept(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.write('GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const [head] = (await once(socket, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.1 200 /);
  return socket;
}

test('ten thousand idle connections and slow bodies', async () => {
  const { url, stop } = served;
  const port = Number(new URL(url).port);
  const idle: Socket[] = [];
  while (idle.length < IDLE_COUNT)
    idle.push(...(await Promise.all(Array.from({ length: OPENED_AT_ONCE }, () => kept(port)))));
  expect(idle.filter(({ destroyed }) => destroyed)).toEqual([]);
  expect((await posted(`${url}/v1/rank`, RANKED)).status).toBe(200);
  const slow = await Promise.all(
    Array.from({ length: SLOW_COUNT }, async () => {
      const request = await openRequest(`${url}/v1/rank`, { 'content-length': '1000' });
      request.write('{"context":');
      return request;
    }),
  );
  expect((await posted(`${url}/v1/rank`, RANKED)).status).toBe(200);
  // Any of the idle connections still has an answer.
  const one = idle[IDLE_COUNT / 2]!;
  one.write('GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await once(one, 'data');
  const statuses = await Promise.all(slow.map(({ status }) => status));
  expect(new Set(statuses)).toEqual(new Set([408]));
  for (const socket of idle) socket.destroy();
  await stop();
});
