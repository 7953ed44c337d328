/**
 * The contract of every dispatcher, run on each implementation. For each test, the factory connects
 * a dispatcher to the given executor, either directly or through a queue and a worker.
 */

import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';
import { describe, expect, it } from 'vitest';
import type {
  Admitted,
  DeliveredResult,
  Dispatcher,
  JobOrder,
  Rejection,
} from '../../coordinator/dispatch/dispatcher.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { PROTOCOL_VERSION } from '../../shared/queue/protocol.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { failureOf } from '../fixtures/failures.js';

interface DispatcherUnderTest {
  readonly dispatcher: Dispatcher;
  /** Ends everything the factory started, including the dispatcher. */
  close(): Promise<void>;
}

export type DispatcherFactory = (
  executor: JobExecutor,
  limits: { readonly attemptsMax: number },
) => Promise<DispatcherUnderTest>;

const ATTEMPTS_MAX = 3;
let runCount = 0;

/** Orders of a new run, with distinct row packs and one dense array. */
export function ordersForTest(count: number, outerStep = 0): JobOrder[] {
  runCount += 1;
  const runId = `conformance-${process.pid}-${runCount}`;
  const dense = Uint8Array.of(7, 7, outerStep);
  return Array.from({ length: count }, (_, jobIndex): JobOrder => ({
    job: {
      protocolVersion: PROTOCOL_VERSION,
      runId,
      outerStep,
      jobIndex,
      store: {
        address: 'file:///nowhere',
        digest: 'none',
        storage: StorageConfigSchema.parse({}),
      },
      model: {
        kind: 'logistic',
        embeddingWidth: 1,
        hiddenWidths: [],
        adgroupEmbedding: false,
        personal: ['bias'],
        embeddingDeviation: 0.05,
      },
      taskIndices: [jobIndex],
      microBatchRowsMax: 1024,
      device: 'auto',
      portable: false,
      work: {
        ...{ kind: 'gradient', method: { kind: 'global' }, taskWeights: [1] },
        leaves: { first: 0, stepLeafCount: 1, shapes: [[1, 1, 0, 0, 1]] },
      },
      timeoutMs: 30_000,
      blobLifetimeMs: 60_000,
    },
    dense,
    rowPack: Uint8Array.of(1, 2, jobIndex),
    frozen: null,
  }));
}

/** An executor from a function; by default the output is the row pack, reversed. */
export function executorForTest(
  execute: (input: JobInput, signal?: AbortSignal) => JobOutput | Promise<JobOutput> = outputOf,
): JobExecutor & { readonly calls: JobInput[] } {
  const calls: JobInput[] = [];
  return {
    calls,
    execute: async (input, signal) => {
      calls.push(input);
      return await execute(input, signal);
    },
    close: () => Promise.resolve(),
  };
}

export function outputOf({ rowPack }: Pick<JobInput, 'job' | 'rowPack'>): JobOutput {
  return {
    output: Uint8Array.from(rowPack ?? []).reverse(),
    queryRowCount: 1,
    computeMs: 1,
    backend: 'test',
    fingerprint: 'test-01234567',
  };
}

/** The values read from all results, in order of arrival. */
export async function collected<Value extends object>(
  results: AsyncIterable<Admitted<Value>>,
): Promise<Value[]> {
  const values: Value[] = [];
  for await (const { value } of results) values.push(value);
  return values;
}

/** Reads nothing and refuses nothing. */
export const admitAll = (delivered: DeliveredResult): DeliveredResult => delivered;

const noAbort = (): AbortSignal => new AbortController().signal;

/** What comes of orders, or of so many of them, none of which is refused. */
export function resultsOf(
  dispatcher: Dispatcher,
  orders: number | readonly JobOrder[],
): Promise<DeliveredResult[]> {
  const given = typeof orders === 'number' ? ordersForTest(orders) : orders;
  return collected(dispatcher.run(given, admitAll, noAbort()));
}
const transient = (): QianmoError =>
  new QianmoError({ kind: 'transient', what: 'the compute process died' });

async function failureKindOf(results: AsyncIterable<Admitted<object>>): Promise<string> {
  return (await failureOf(collected(results))).kind;
}

export function describeDispatcher(name: string, factory: DispatcherFactory): void {
  const withDispatcher = async (
    executor: JobExecutor,
    use: (dispatcher: Dispatcher) => Promise<void>,
  ): Promise<void> => {
    const underTest = await factory(executor, { attemptsMax: ATTEMPTS_MAX });
    try {
      await use(underTest.dispatcher);
    } finally {
      await underTest.close();
    }
  };

  describe(`${name} as a dispatcher`, () => {
    it('yields exactly one admitted result for each order, with its bytes', async () => {
      const executor = executorForTest();
      await withDispatcher(executor, async (dispatcher) => {
        const orders = ordersForTest(12);
        const admitted: number[] = [];
        const results = await collected(
          dispatcher.run(
            orders,
            (delivered) => {
              admitted.push(delivered.result.jobIndex);
              return delivered;
            },
            noAbort(),
          ),
        );
        const ascending = (a: number, b: number): number => a - b;
        const all = orders.map((order) => order.job.jobIndex);
        expect(admitted.sort(ascending)).toEqual(all);
        expect(results.map((r) => r.result.jobIndex).sort(ascending)).toEqual(all);
        for (const { result, output } of results) {
          expect([...output]).toEqual([result.jobIndex, 2, 1]);
          expect(result).toMatchObject({
            runId: orders[0]?.job.runId,
            outerStep: 0,
            taskCount: 1,
          });
          expect(result.output.byteCount).toBe(3);
        }
        for (const { job, dense, rowPack } of executor.calls) {
          expect([...dense]).toEqual([7, 7, 0]);
          expect([...(rowPack ?? [])]).toEqual([1, 2, job.jobIndex]);
        }
        expect([...dispatcher.rejections.values()].reduce((sum, n) => sum + n, 0)).toBe(0);
      });
    });

    it("passes a run's frozen inputs to every job of every outer step", async () => {
      const executor = executorForTest((input) => ({
        ...outputOf(input),
        output: Uint8Array.of(...(input.frozen ?? []), input.job.jobIndex),
      }));
      await withDispatcher(executor, async (dispatcher) => {
        const frozen = Uint8Array.of(5, 6);
        for (const outerStep of [0, 1, 2]) {
          const orders = ordersForTest(2, outerStep).map((order) => ({
            ...order,
            rowPack: null,
            frozen,
          }));
          const results = await resultsOf(dispatcher, orders);
          for (const { result, output } of results)
            expect([...output]).toEqual([5, 6, result.jobIndex]);
        }
        expect(executor.calls).toHaveLength(6);
        for (const { job, rowPack } of executor.calls) {
          expect(job.frozen).toEqual(blobRefOf(frozen));
          expect(job.rowPack).toBeUndefined();
          expect(rowPack).toBeNull();
        }
      });
    });

    it('does nothing without orders', async () => {
      await withDispatcher(executorForTest(), async (dispatcher) => {
        expect(await resultsOf(dispatcher, [])).toEqual([]);
      });
    });

    it('serves consecutive outer steps', async () => {
      await withDispatcher(executorForTest(), async (dispatcher) => {
        for (const outerStep of [0, 1, 2]) {
          const results = await collected(
            dispatcher.run(ordersForTest(3, outerStep), admitAll, noAbort()),
          );
          expect(results.map((r) => r.result.outerStep)).toEqual([outerStep, outerStep, outerStep]);
        }
      });
    });

    it('retries a job whose result was refused, and counts the refusal', async () => {
      const executor = executorForTest();
      await withDispatcher(executor, async (dispatcher) => {
        let refusals = 0;
        const read = (delivered: DeliveredResult): DeliveredResult | Rejection => {
          if (delivered.result.jobIndex !== 1 || refusals === 2) return delivered;
          refusals += 1;
          return 'not_finite';
        };
        const results = await collected(dispatcher.run(ordersForTest(3), read, noAbort()));
        expect(results.map((r) => r.result.jobIndex).sort()).toEqual([0, 1, 2]);
        expect(dispatcher.rejections.get('not_finite')).toBe(2);
        expect(executor.calls.filter(({ job }) => job.jobIndex === 1)).toHaveLength(3);
      });
    });

    it('fails when every result of a job is refused', async () => {
      await withDispatcher(executorForTest(), async (dispatcher) => {
        const read = (delivered: DeliveredResult): DeliveredResult | Rejection =>
          delivered.result.jobIndex === 0 ? 'layout_mismatch' : delivered;
        expect(await failureKindOf(dispatcher.run(ordersForTest(2), read, noAbort()))).toBe(
          'failed',
        );
        expect(dispatcher.rejections.get('layout_mismatch')).toBe(ATTEMPTS_MAX);
      });
    });

    it('retries after a transient error', async () => {
      const failedOnce = new Set<number>();
      const executor = executorForTest((input) => {
        if (failedOnce.has(input.job.jobIndex)) return outputOf(input);
        failedOnce.add(input.job.jobIndex);
        throw transient();
      });
      await withDispatcher(executor, async (dispatcher) => {
        const results = await resultsOf(dispatcher, 2);
        expect(results).toHaveLength(2);
        expect(executor.calls).toHaveLength(4);
      });
    });

    it('fails when transient errors use up the attempts', async () => {
      const executor = executorForTest(() => {
        throw transient();
      });
      await withDispatcher(executor, async (dispatcher) => {
        expect(await failureKindOf(dispatcher.run(ordersForTest(1), admitAll, noAbort()))).toBe(
          'failed',
        );
        expect(executor.calls).toHaveLength(ATTEMPTS_MAX);
      });
    });

    it('does not retry a permanent failure', async () => {
      const executor = executorForTest(() => {
        throw new QianmoError({ kind: 'data', what: 'the store is another one' });
      });
      await withDispatcher(executor, async (dispatcher) => {
        const kind = await failureKindOf(dispatcher.run(ordersForTest(1), admitAll, noAbort()));
        expect(['data', 'failed']).toContain(kind);
        expect(executor.calls).toHaveLength(1);
      });
    });

    it('is interrupted by a signal that was already aborted', async () => {
      const executor = executorForTest();
      await withDispatcher(executor, async (dispatcher) => {
        const run = dispatcher.run(ordersForTest(2), admitAll, AbortSignal.abort());
        expect(await failureKindOf(run)).toBe('interrupted');
      });
    });

    it('is interrupted during the computation of a job, without waiting for it', async () => {
      const abort = new AbortController();
      let release = (): void => undefined;
      const released = new Promise<void>((resolve) => {
        release = resolve;
      });
      const executor = executorForTest(async (input) => {
        abort.abort();
        await released;
        return outputOf(input);
      });
      await withDispatcher(executor, async (dispatcher) => {
        const run = dispatcher.run(ordersForTest(2), admitAll, abort.signal);
        expect(await failureKindOf(run).finally(release)).toBe('interrupted');
      });
    });
  });
}
