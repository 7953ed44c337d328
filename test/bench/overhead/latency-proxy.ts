/**
 * A TCP proxy before a Redis, in a process of its own, that delays what clients send. Bytes on their way do
 * not wait for each other: it adds latency and takes no bandwidth.
 *
 *   node latency-proxy.js PORT LATENCY_MS
 */

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { z } from 'zod';
import { systemClock } from '../../../shared/base/clock.js';

const [port, latencyMs] = z
  .tuple([z.coerce.number(), z.coerce.number()])
  .parse(process.argv.slice(2));

/** Chunks on their way, each with the time at which it arrives. */
function delayed(from: Socket, to: Socket): void {
  const chunks: { readonly atMs: number; readonly bytes: Buffer }[] = [];
  let isArriving = false;
  const arrive = async (): Promise<void> => {
    isArriving = true;
    for (let first = chunks[0]; first !== undefined; first = chunks[0]) {
      const leftMs = first.atMs - systemClock.monotonicMs();
      if (leftMs > 0) await systemClock.sleep(leftMs);
      chunks.shift();
      if (!to.destroyed) to.write(first.bytes);
    }
    isArriving = false;
  };
  from.on('data', (bytes) => {
    chunks.push({ atMs: systemClock.monotonicMs() + latencyMs, bytes });
    if (!isArriving) void arrive();
  });
}

const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ port, host: '127.0.0.1', noDelay: true });
  delayed(near, far);
  far.pipe(near);
  for (const socket of [near, far]) {
    socket.on('error', () => undefined);
    socket.on('close', () => {
      near.destroy();
      far.destroy();
    });
  }
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
// A listening TCP server has an address with a port.
console.log((server.address() as AddressInfo).port);
process.once('SIGTERM', () => process.exit());
