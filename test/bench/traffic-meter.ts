/**
 * Counts the traffic of one outer step through Redis, by kind, and reads Redis' own counters. Wraps
 * a dispatcher and its blob store without changing the messages.
 */

import { jobOf, type Dispatcher, type JobOrder } from '../../coordinator/dispatch/dispatcher.js';
import type { RedisConnection } from '../../shared/queue/redis-connection.js';
import type { BlobRef, BlobStore } from '../../shared/storage/blob-store.js';
import {
  RedisBlobStore,
  type RedisBlobStoreOptions,
} from '../../shared/storage/redis-blob-store.js';
import { decodeTensors } from '../../shared/tensors/tensor-codec.js';

/** Bytes of one outer step in one direction: each kind is written to Redis and read again. */
export interface StepTraffic {
  readonly jobCount: number;
  /** Rows of all row packs: a row that several jobs touch is sent with each. */
  readonly rowsTouched: number;
  readonly denseByteCount: number;
  readonly rowPackByteCount: number;
  readonly outputByteCount: number;
  /** Jobs as JSON. */
  readonly jobRecordByteCount: number;
  /** Results as JSON; their length varies with the digits of the compute time. */
  readonly resultRecordByteCount: number;
  /** Counters of Redis itself, including the commands of all clients. */
  readonly redisInputByteCount: number;
  readonly redisOutputByteCount: number;
}

interface TrafficMeter {
  readonly blobs: BlobStore;
  readonly steps: readonly StepTraffic[];
  over(dispatcher: Dispatcher): Dispatcher;
}

export function trafficMeter(
  options: RedisBlobStoreOptions,
  observer: RedisConnection,
): TrafficMeter {
  const steps: StepTraffic[] = [];
  const blobs = new DirectedBlobStore(options);
  return {
    blobs,
    steps,
    over: (dispatcher) => ({
      rejections: dispatcher.rejections,
      close: () => dispatcher.close(),
      async *run(orders, read, signal) {
        const resultByteCounts: number[] = [];
        blobs.startStep(orders);
        const before = await redisTotals(observer);
        for await (const admitted of dispatcher.run(orders, read, signal)) {
          resultByteCounts.push(byteCountOf(admitted.result));
          yield admitted;
        }
        const after = await redisTotals(observer);
        steps.push({
          jobCount: orders.length,
          rowsTouched: sum(orders.map(rowPackRowCount)),
          ...blobs.byteCounts(),
          jobRecordByteCount: sum(orders.map(jobRecordByteCount)),
          resultRecordByteCount: sum(resultByteCounts),
          redisInputByteCount: after.input - before.input,
          redisOutputByteCount: after.output - before.output,
        });
      },
    }),
  };
}

/** Distinguishes dense variables from row packs by the arrays of the step's orders. */
class DirectedBlobStore implements BlobStore {
  readonly #inner: RedisBlobStore;
  #dense = new Set<Uint8Array>();
  #denseByteCount = 0;
  #rowPackByteCount = 0;
  #outputByteCount = 0;

  constructor(options: RedisBlobStoreOptions) {
    this.#inner = new RedisBlobStore(options);
  }

  startStep(orders: readonly JobOrder[]): void {
    this.#dense = new Set(orders.map(({ dense }) => dense));
    this.#denseByteCount = 0;
    this.#rowPackByteCount = 0;
    this.#outputByteCount = 0;
  }

  byteCounts(): Pick<StepTraffic, 'denseByteCount' | 'rowPackByteCount' | 'outputByteCount'> {
    return {
      denseByteCount: this.#denseByteCount,
      rowPackByteCount: this.#rowPackByteCount,
      outputByteCount: this.#outputByteCount,
    };
  }

  async put(bytes: Uint8Array): Promise<BlobRef> {
    // Puts run concurrently, so the inner store's counter cannot distinguish them.
    if (this.#dense.has(bytes)) this.#denseByteCount += bytes.byteLength;
    else this.#rowPackByteCount += bytes.byteLength;
    return this.#inner.put(bytes);
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    const bytes = await this.#inner.get(ref);
    this.#outputByteCount += bytes.byteLength;
    return bytes;
  }

  has(ref: BlobRef): Promise<boolean> {
    return this.#inner.has(ref);
  }

  delete(ref: BlobRef): Promise<void> {
    return this.#inner.delete(ref);
  }
}

function rowPackRowCount({ rowPack }: JobOrder): number {
  if (rowPack === null) return 0;
  return decodeTensors(rowPack, 'a row pack').get('rows')?.shape[0] ?? 0;
}

/** The job as it is queued: the order's job and its references. */
function jobRecordByteCount(order: JobOrder): number {
  return byteCountOf(
    jobOf(order, ({ byteLength: byteCount }) => ({ sha256: '0'.repeat(64), byteCount })),
  );
}

function byteCountOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

async function redisTotals(redis: RedisConnection): Promise<{ input: number; output: number }> {
  const text = await redis.info('stats');
  const field = (name: string): number => {
    const found = new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1];
    if (found === undefined) throw new Error(`INFO stats has no ${name}`);
    return Number(found);
  };
  return { input: field('total_net_input_bytes'), output: field('total_net_output_bytes') };
}
