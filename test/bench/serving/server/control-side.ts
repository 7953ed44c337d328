/**
 * A bare node:http server that receives a body and answers with as many bytes as a ranking has: what of a latency
 * is the machine's and the load's. At `/busy/N` it computes nothing for N microseconds first, so that requests wait for
 * each other as they do at a server that takes as long.
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BINARY_TYPE } from '../../../../worker/serving/server/ranking-body.js';
import { CANDIDATE_COUNT } from '../kernel-setting.js';

/** A place and a value of each candidate, and a header. */
const binary = Buffer.alloc(12 * CANDIDATE_COUNT + 200);
/** The same in decimals. */
const decimals = Buffer.alloc(24 * CANDIDATE_COUNT + 200);
const BUSY = /^\/busy\/(\d+)$/;

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    const endMs = performance.now() + Number(BUSY.exec(request.url ?? '')?.[1] ?? 0) / 1_000;
    while (performance.now() < endMs);
    const type = request.headers['content-type'] ?? '';
    const content = type === BINARY_TYPE ? binary : decimals;
    response.writeHead(200, { 'Content-Type': type, 'Content-Length': content.length });
    response.end(content);
  });
});
server.listen(0, '127.0.0.1', () => {
  // Only pipes have an address without a port.
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${port}` })}\n`);
});
