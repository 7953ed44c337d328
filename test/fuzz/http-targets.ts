/**
 * HTTP in both directions: requests to the dashboard, and answers of an S3 server to the object store. The
 * bytes go through real sockets, so that the parsers of Node, of the server and of the SDK take part.
 */

import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { Queue } from 'bullmq';
import type { Hono } from 'hono';
import { dashboardApp } from '../../coordinator/dashboard/serve-dashboard.js';
import { systemClock } from '../../shared/base/clock.js';
import type { RandomStream } from '../../shared/base/random.js';
import { S3ObjectStore } from '../../shared/storage/s3-object-store.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedText, pick } from './mutations.js';

const REQUESTS = [
  'GET /queues HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nConnection: close\r\n\r\n',
  'GET /queues/static/favicon.ico?v=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n',
  'GET /queues/api/nothing?page=1&status=latest HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n',
  'PUT /queues/api/queues/inner-loops/retry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}',
  'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n0\r\n\r\n',
];

/** Text as it is, one byte for each character. */
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

function mutatedMessage(stream: RandomStream, examples: readonly string[]): Buffer {
  return latin1(mutatedText(stream, pick(stream, examples)));
}

/** The dashboard of a queue alone, whose server nobody asks. */
function fuzzedApp(queue: Queue): Hono {
  const access = { hostsAllowed: [], token: null };
  const nothing = { catalog: null, servers: [], rankings: null, desk: null };
  const watch = { state: () => Promise.reject(new Error('no server')) };
  const shown = { queue, watch, metrics: () => Promise.resolve('') };
  return dashboardApp({ access, ...nothing, clock: systemClock, queue: shown });
}

async function boardPort(): Promise<number> {
  // No server is there, and no request of the examples asks for data of the queue.
  const queue = new Queue('inner-loops', {
    connection: { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 },
    skipMetasUpdate: true,
  });
  queue.on('error', () => undefined);
  const server = serve({ fetch: fuzzedApp(queue).fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  server.unref();
  // A listening TCP server has an address with a port.
  return (server.address() as AddressInfo).port;
}

const board = boardPort();

const dashboard: FuzzTarget = {
  name: 'dashboard-request',
  share: 0.05,
  inputOf: (stream) => mutatedMessage(stream, REQUESTS),
  parse: async (input) => {
    const socket = connect(await board, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.end(input);
    await closed;
  },
};

const HEAD =
  'HTTP/1.1 200 OK\r\nConnection: close\r\nETag: "e1"\r\nContent-Type: application/xml\r\n';

function answerOf(body: string, head = HEAD): string {
  return `${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const LISTED =
  '<Contents><Key>runs/a/b.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>' +
  '<ETag>&quot;e1&quot;</ETag><Size>3</Size></Contents>';

const ANSWERS = [
  answerOf('abc'),
  answerOf(
    `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>${LISTED}</ListBucketResult>`,
  ),
  answerOf(
    `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>${LISTED}</ListBucketResult>`,
  ),
  ...['404 Not Found', '403 Forbidden', '412 Precondition Failed'].map((status) =>
    answerOf(
      '<Error><Code>NoSuchKey</Code><Message>m</Message></Error>',
      HEAD.replace('200 OK', status),
    ),
  ),
];

/** The answer of the server at present. */
let answer: Uint8Array = latin1('');

async function answeringStore(): Promise<S3ObjectStore> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(answer));
  });
  server.listen(0, '127.0.0.1').unref();
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return new S3ObjectStore({
    ...{ bucket: 'b', prefix: 'runs', region: 'us-east-1', forcePathStyle: true },
    endpoint: `http://127.0.0.1:${port}`,
    credentials: { accessKeyId: 'a', secretAccessKey: 's' },
  });
}

const store = answeringStore();
const BYTE_COUNT_MAX = 1024 * 1024;

const objectStore: FuzzTarget = {
  name: 's3-answer',
  share: 0.005,
  inputOf: (stream) => mutatedMessage(stream, ANSWERS),
  parse: async (input) => {
    answer = input;
    const objects = await store;
    // An input decides by its length which request it answers.
    switch (input.byteLength % 3) {
      case 0:
        return objects.get('a', BYTE_COUNT_MAX);
      case 1:
        return objects.put('a', Uint8Array.of(1), { kind: 'absent' });
      default:
        return objects.listWithTimes('');
    }
  },
};

export const HTTP_TARGETS: readonly FuzzTarget[] = [dashboard, objectStore];
