/** Stores of a run whose bucket fails for a while; the answers of the bucket are scripted. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { objectStoreOf } from '../../../coordinator/runs/run-files.js';
import { type RunEvent, objectStoreAway } from '../../../shared/events/run-events.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

/** Bad uploads that are repeated before the store counts as away. */
const ATTEMPT_COUNT = 5;

afterEach(() => vi.unstubAllEnvs());

it('waits for its bucket, once any of its stores has answered', async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'a');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'b');
  let badCount = 0;
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      const isBad = request.method === 'PUT' && badCount > 0;
      if (isBad) badCount -= 1;
      response.writeHead(isBad ? 400 : 200, { etag: '"e"' });
      response.end(isBad ? '<Error><Code>BadDigest</Code></Error>' : '<ListBucketResult/>');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A server that listens on a port has an address of this form.
  const { port } = server.address() as AddressInfo;
  const base = logisticConfig({ outerSteps: 1 });
  const storage = { ...base.storage, s3Endpoint: `http://127.0.0.1:${port}` };
  const events: RunEvent[] = [];
  const { signal } = new AbortController();
  const caller = {
    clock: instantClock(),
    signal,
    sink: (event: RunEvent) => void events.push(event),
  };
  const [first, second] = ['s3://bucket/a', 's3://bucket/b'].map((address) =>
    objectStoreOf({ ...base, storage }, address, caller),
  );
  await first!.list('');
  badCount = ATTEMPT_COUNT;
  expect(await second!.put('key', Buffer.from('bytes'), { kind: 'always' })).toBe('"e"');
  expect(events).toEqual([
    objectStoreAway({ address: 's3://bucket/b', reason: 'BadDigest (HTTP 400)' }),
    expect.objectContaining({ code: 'object-store-back' }),
  ]);
  server.closeAllConnections();
  server.close();
});
