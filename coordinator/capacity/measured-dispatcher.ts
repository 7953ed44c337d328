/** A dispatcher that notes what each outer step costs, between a training and the dispatcher that it uses. */

import type { Clock } from '../../shared/base/clock.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';

export interface MeasuredStep {
  readonly computeMsOfJobs: readonly number[];
  /** From the orders to the last result. */
  readonly dispatchMs: number;
  /** The processor time of this process meanwhile. */
  readonly processorMs: number;
  /** The processor time of the processes that it has started. */
  readonly othersProcessorMs: number;
  /** From the last result of the step before to these orders; null for the first step. */
  readonly serialMs: number | null;
  readonly denseByteCount: number;
  /** The average of a job. */
  readonly inputByteCount: number;
  readonly outputByteCount: number;
}

interface ProcessorTimes {
  /** The processor time of this process so far. */
  own(): number;
  /** The processor time of the processes that it has started. */
  others(): number;
}

export function measuredDispatcher(
  inner: Dispatcher,
  clock: Clock,
  processor: ProcessorTimes,
): { readonly dispatcher: Dispatcher; readonly steps: readonly MeasuredStep[] } {
  const steps: MeasuredStep[] = [];
  let lastResultMs: number | null = null;
  const dispatcher: Dispatcher = {
    rejections: inner.rejections,
    async *run(orders, read, signal, terms) {
      const [startMs, ownMs, othersMs] = [clock.monotonicMs(), processor.own(), processor.others()];
      const serialMs = lastResultMs === null ? null : startMs - lastResultMs;
      const computeMsOfJobs: number[] = [];
      let outputByteCount = 0;
      for await (const admitted of inner.run(orders, read, signal, terms)) {
        computeMsOfJobs.push(admitted.result.computeMs);
        outputByteCount += admitted.result.output.byteCount;
        yield admitted;
        lastResultMs = clock.monotonicMs();
      }
      const inputByteCount = orders.reduce(
        (sum, { rowPack }) => sum + (rowPack?.byteLength ?? 0),
        0,
      );
      steps.push({
        ...{ computeMsOfJobs, serialMs },
        dispatchMs: (lastResultMs ?? startMs) - startMs,
        processorMs: processor.own() - ownMs,
        othersProcessorMs: processor.others() - othersMs,
        denseByteCount: orders[0]?.dense.byteLength ?? 0,
        inputByteCount: inputByteCount / orders.length,
        outputByteCount: outputByteCount / orders.length,
      });
    },
    close: () => inner.close(),
  };
  return { dispatcher, steps };
}
