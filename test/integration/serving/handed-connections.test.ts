/** Connections that another process has accepted are served as those that the server accepts itself. */

import { EventEmitter, once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import type { Endpoint } from '../../../worker/serving/server/endpoint.js';
import { rankEndpoint } from '../../../worker/serving/server/endpoints/table.js';
import { RankingServer } from '../../../worker/serving/server/ranking-server.js';
import { RANKED, testServer, twoBundles } from '../../fixtures/serving/served-export.js';

const REQUEST_TIMEOUT_MS = 300;

const bundles = await twoBundles();
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Answers when the test says so. */
const log = new EventEmitter();
const later: Endpoint = {
  ...{ method: 'POST', path: '/later', mediaTypes: ['application/json'] },
  answer: async () => {
    const goOn = once(log, 'go on');
    log.emit('entered');
    await goOn;
    return { mediaType: 'text/plain', content: 'late' };
  },
};

interface Served {
  readonly server: RankingServer;
  readonly port: number;
}

async function accepting(): Promise<Served> {
  const { url, server } = await testServer(bundles.objects, {
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
    endpoints: [rankEndpoint, later],
  });
  return { server, port: Number(new URL(url).port) };
}

async function handed(): Promise<Served> {
  const other = await testServer(bundles.objects);
  const server = RankingServer.ofHanded(
    {
      ...{ clock: systemClock, keeper: other.keeper, onEvent: () => undefined },
      endpoints: [rankEndpoint, later],
    },
    {
      ...{ token: null, queuedRequestsMax: 100, deadlineMs: 60_000 },
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
    },
  );
  const acceptor = createServer((socket) => server.take(socket)).listen(0, '127.0.0.1');
  await once(acceptor, 'listening');
  closing.push(async () => {
    acceptor.close();
    await other.server.drain();
  });
  return { server, port: (acceptor.address() as AddressInfo).port };
}

function requestOf(path: string, content: object): string {
  const body = JSON.stringify(content);
  const type = 'Content-Type: application/json';
  return `POST ${path} HTTP/1.1\r\nHost: a\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

async function connected(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket.setEncoding('utf8');
}

/** All bytes that come until the server closes the connection. */
async function allOf(socket: Socket): Promise<string> {
  let text = '';
  for await (const part of socket) text += String(part);
  return text;
}

describe.each([
  { how: 'accepted', served: accepting },
  { how: 'handed', served: handed },
])('$how connections', ({ served }) => {
  test('are kept after an answer', async () => {
    const { server, port } = await served();
    const socket = await connected(port);
    for (const path of ['/v1/rank', '/v1/rank', '/nothing', '/nothing']) {
      socket.write(requestOf(path, RANKED));
      const [text] = (await once(socket, 'data')) as [string];
      expect(text).toMatch(path === '/v1/rank' ? /^HTTP\/1.1 200 / : /^HTTP\/1.1 404 /);
    }
    socket.destroy();
    await server.drain();
  });

  test('have an answer if the client has closed its side', async () => {
    const { server, port } = await served();
    const socket = await connected(port);
    const entered = once(log, 'entered');
    socket.end(requestOf('/later', {}));
    await entered;
    // The end has come, too.
    await systemClock.sleep(20);
    log.emit('go on');
    expect(await allOf(socket)).toMatch(/^HTTP\/1.1 200 [^]*late$/);
    await server.drain();
  });

  test.each([
    ['headers', 'POST /v1/rank HTTP/1.1\r\nHost: a\r\n'],
    ['a body', requestOf('/v1/rank', RANKED).slice(0, -1)],
  ])('that bring %s too slowly are ended', async (_name, text) => {
    const { server, port } = await served();
    const socket = await connected(port);
    socket.write(text);
    expect(await allOf(socket)).toMatch(/^HTTP\/1.1 408 /);
    await server.drain();
  });

  test('are drained: those under way are answered, the idle ones are closed', async () => {
    const { server, port } = await served();
    const [idle, plain, byNode] = [
      await connected(port),
      await connected(port),
      await connected(port),
    ];
    for (const socket of [plain, byNode]) {
      const entered = once(log, 'entered');
      // A request with a header of its own in lines of another kind is node:http's.
      const request = requestOf('/later', {});
      socket.write(
        socket === plain ? request : request.replace('Host', 'Expect: 100-continue\r\nHost'),
      );
      await entered;
    }
    let isDrained = false;
    const drained = server.drain().then(() => (isDrained = true));
    expect(await allOf(idle)).toBe('');
    expect(isDrained).toBe(false);
    log.emit('go on');
    expect(await allOf(plain)).toMatch(/HTTP\/1.1 200 [^]*late$/);
    expect(await allOf(byNode)).toMatch(/HTTP\/1.1 200 [^]*late$/);
    await drained;
  });
});
