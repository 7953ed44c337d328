/** A thread that generates chunks of the log on request. Started by chunk-pool.ts only. */

import { parentPort, workerData } from 'node:worker_threads';
import type { ChunkReply, ChunkRequest, ChunkThreadData } from './chunk-pool.js';
import { ChunkGenerator } from './chunk-generator.js';

// chunk-pool.ts passes this to the thread.
const { source, boundaries, compress } = workerData as ChunkThreadData;
const generator = new ChunkGenerator(source, boundaries, compress);

parentPort?.on('message', ({ chunkIndex }: ChunkRequest) => {
  const chunk = generator.chunk(chunkIndex);
  const reply: ChunkReply = { chunkIndex, chunk };
  parentPort?.postMessage(reply, [chunk.bytes.buffer]);
});
