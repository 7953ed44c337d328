/** A dispatcher that notes what each outer step costs, between a training and the dispatcher that it uses. */

import type { Clock } from '../../shared/base/clock.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';

interface MeasuredJob {
  readonly jobIndex: number;
  readonly computeMs: number;
  readonly inputByteCount: number;
  readonly outputByteCount: number;
}

export interface MeasuredStep {
  readonly outerStep: number;
  /** In order of arrival. */
  readonly jobs: readonly MeasuredJob[];
  /** From the orders to the last result. */
  readonly dispatchMs: number;
  /** The processor time of this process meanwhile. */
  readonly processorMs: number;
  /** The processor time of the processes that it has started. */
  readonly othersProcessorMs: number;
  /** From the last result of the step before to these orders; null for the first step. */
  readonly serialMs: number | null;
  readonly denseByteCount: number;
}

interface ProcessorTimes {
  /** The processor time of this process so far. */
  own(): number;
  /** The processor time of the processes that it has started. */
  others(): number;
}

/** It does not say how many workers there are, so jobs of one worker stay whole. */
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
      const jobs: MeasuredJob[] = [];
      for await (const admitted of inner.run(orders, read, signal, terms)) {
        const { jobIndex, computeMs, output } = admitted.result;
        const inputByteCount = orders[jobIndex]?.rowPack?.byteLength ?? 0;
        jobs.push({ jobIndex, computeMs, inputByteCount, outputByteCount: output.byteCount });
        yield admitted;
        lastResultMs = clock.monotonicMs();
      }
      steps.push({
        ...{ outerStep: orders[0]?.job.outerStep ?? -1, jobs, serialMs },
        dispatchMs: (lastResultMs ?? startMs) - startMs,
        processorMs: processor.own() - ownMs,
        othersProcessorMs: processor.others() - othersMs,
        denseByteCount: orders[0]?.dense.byteLength ?? 0,
      });
    },
    close: () => inner.close(),
  };
  return { dispatcher, steps };
}
