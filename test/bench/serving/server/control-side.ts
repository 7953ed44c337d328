/**
 * A bare node:http server that receives a body and answers with as many bytes as a ranking has: what of a latency
 * is the machine's and the load's.
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BINARY_TYPE } from '../../../../worker/serving/server/forms/binary-layout.js';
import { CANDIDATE_COUNT } from '../kernel-setting.js';

/** A place and a value of each candidate, and a header. */
const binary = Buffer.alloc(12 * CANDIDATE_COUNT + 200);
/** The same in decimals. */
const decimals = Buffer.alloc(24 * CANDIDATE_COUNT + 200);

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
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
