/**
 * Yields chunks in order from any number of threads. Threads work a bounded number of chunks ahead of the
 * reader, so that memory does not grow with the log.
 */

import { Worker } from 'node:worker_threads';
import { ChunkGenerator } from './chunk-generator.js';
import type { ChunkRows, RowSource } from './csv-rows.js';

/** Chunks that each thread may have generated or started beyond the one being written. */
const CHUNKS_AHEAD_PER_THREAD = 3;

export interface ChunkThreadData {
  readonly source: RowSource;
  readonly boundaries: Float64Array;
  readonly compress: boolean;
}

export interface ChunkRequest {
  readonly chunkIndex: number;
}

export interface ChunkReply {
  readonly chunkIndex: number;
  readonly chunk: ChunkRows;
}

interface ChunkPoolOptions extends ChunkThreadData {
  /** With 1, chunks are generated in this thread. */
  readonly threadCount: number;
  /** The compiled chunk-worker.ts; by default the one beside this file. */
  readonly threadEntry?: URL;
}

/** Yields chunk 0, 1, ... to the last; ends its threads when the reader stops early. */
export async function* generateChunks(options: ChunkPoolOptions): AsyncGenerator<ChunkRows> {
  const chunkCount = options.boundaries.length - 1;
  const threadCount = Math.min(options.threadCount, chunkCount);
  if (threadCount <= 1) {
    const generator = new ChunkGenerator(options.source, options.boundaries, options.compress);
    for (let chunkIndex = 0; chunkIndex < chunkCount; chunkIndex += 1) {
      yield generator.chunk(chunkIndex);
    }
    return;
  }
  const threads = startThreads(options, threadCount);
  const pending = new Map<number, Promise<ChunkRows>>();
  try {
    for (let next = 0, requested = 0; next < chunkCount; next += 1) {
      const requestedUntil = Math.min(chunkCount, next + threadCount * CHUNKS_AHEAD_PER_THREAD);
      for (; requested < requestedUntil; requested += 1) {
        const thread = threads[requested % threadCount];
        if (thread !== undefined) pending.set(requested, thread.chunk(requested));
      }
      const chunk = pending.get(next);
      if (chunk === undefined) throw new Error(`chunk ${next} was never requested`);
      pending.delete(next);
      yield await chunk;
    }
  } finally {
    await Promise.all(threads.map((thread) => thread.end()));
  }
}

function startThreads(options: ChunkPoolOptions, threadCount: number): ChunkThread[] {
  const { source, boundaries, compress } = options;
  const entry = options.threadEntry ?? new URL('./chunk-worker.js', import.meta.url);
  const data: ChunkThreadData = { source, boundaries, compress };
  return Array.from({ length: threadCount }, () => new ChunkThread(entry, data));
}

class ChunkThread {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, ChunkPromise>();

  constructor(entry: URL, data: ChunkThreadData) {
    this.worker = new Worker(entry, { workerData: data });
    this.worker.on('message', ({ chunkIndex, chunk }: ChunkReply) => {
      this.waiting.get(chunkIndex)?.resolve(chunk);
      this.waiting.delete(chunkIndex);
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => this.fail(new Error(`thread ended with code ${code}`)));
  }

  chunk(chunkIndex: number): Promise<ChunkRows> {
    const promise = new Promise<ChunkRows>((resolve, reject) => {
      this.waiting.set(chunkIndex, { resolve, reject });
    });
    // After the reader has stopped, the failure of a chunk does not matter.
    promise.catch(() => undefined);
    this.worker.postMessage({ chunkIndex } satisfies ChunkRequest);
    return promise;
  }

  async end(): Promise<void> {
    await this.worker.terminate();
  }

  private fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

interface ChunkPromise {
  readonly resolve: (chunk: ChunkRows) => void;
  readonly reject: (error: Error) => void;
}
