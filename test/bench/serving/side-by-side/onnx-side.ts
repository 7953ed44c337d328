/**
 * A bare node:http server that ranks by onnxruntime-node, one request at a time on one thread: what a company writes that
 * exports the bundle as ONNX. Candidates come as numbers (`peer-body.ts`), so that it looks nothing up.
 *
 *   node onnx-side.js MODEL_FOLDER
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { BINARY_TYPE } from '../../../../worker/serving/server/forms/binary-layout.js';
import { plainOrder } from '../../../../worker/serving/columns/ordered-candidates.js';
import { onnxRuntime } from '../interchange/runtimes.js';
import { peerAnswer, peerInputs } from '../server/peer-body.js';

const [, , folder = ''] = process.argv;
const { InferenceSession, Tensor } = onnxRuntime();
const session = await InferenceSession.create(join(folder, 'model.onnx'), {
  ...{ logSeverityLevel: 3, intraOpNumThreads: 1, interOpNumThreads: 1 },
});

async function ranked(body: Buffer): Promise<Uint8Array> {
  const { features, bids } = peerInputs(body);
  const feeds = Object.fromEntries(
    features.map(([name, values]) => [name, new Tensor('int32', values, [values.length])]),
  );
  const { expected } = await session.run(feeds);
  if (expected === undefined) throw new Error('the model has no expected values');
  const values = Float64Array.from(expected.data, (value, place) => value * (bids[place] ?? NaN));
  const order = new Int32Array(values.length);
  plainOrder(values, 0, order);
  return peerAnswer(order, values);
}

let last: Promise<unknown> = Promise.resolve();
const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    last = last.then(async () => {
      const content = await ranked(Buffer.concat(chunks));
      response.writeHead(200, { 'Content-Type': BINARY_TYPE, 'Content-Length': content.length });
      response.end(content);
    });
  });
});
server.listen(0, '127.0.0.1', () => {
  // Only pipes have an address without a port.
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${port}` })}\n`);
});
