/** The costs of an outer step, measured between a training and the dispatcher that it uses. */

import { at, median } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { CALL_OVERHEAD_ROWS, paddedRowCountOf } from '../../shared/tasks/rows/micro-batches.js';
import type { Dispatcher, JobOrder } from '../dispatch/dispatcher.js';

interface MeasuredStep {
  readonly deliveryCount: number;
  /** The cost of its leaves. */
  readonly cost: number;
  readonly computeMs: number;
  /** From the orders to the last result. */
  readonly dispatchMs: number;
  /** The processor time of this process meanwhile. */
  readonly processorMs: number;
  /** From the last result of the step before to these orders; null for the first step. */
  readonly serialMs: number | null;
  readonly denseByteCount: number;
  readonly hasRowPacks: boolean;
}

export interface StepCosts {
  /** From the last result of an outer step to the first job of the next. */
  readonly serialMs: number;
  /** The time in which a worker computes a unit of leaf cost. */
  readonly msPerCost: number;
  /** The time that a delivery takes its worker besides computing. */
  readonly workerMsPerDelivery: number;
  /** The processor time of the coordinator to send a delivery and to take its sum. */
  readonly coordinatorMsPerDelivery: number;
  /** The bytes that every worker fetches once in an outer step. */
  readonly denseByteCount: number;
  /** False where nothing but dense variables travels to the workers. */
  readonly hasRowPacks: boolean;
  /** The measured time of an outer step. */
  readonly stepMs: number;
}

/** It does not say how many workers there are: there is one. */
export function measuringDispatcher(
  inner: Dispatcher,
  clock: Clock,
  processorMs: () => number,
): { readonly dispatcher: Dispatcher; readonly steps: readonly MeasuredStep[] } {
  const steps: MeasuredStep[] = [];
  let lastResultMs: number | null = null;
  const dispatcher: Dispatcher = {
    rejections: inner.rejections,
    async *run(orders, read, signal, terms) {
      const [startMs, startProcessorMs] = [clock.monotonicMs(), processorMs()];
      const serialMs = lastResultMs === null ? null : startMs - lastResultMs;
      let [computeMs, endMs] = [0, startMs];
      for await (const admitted of inner.run(orders, read, signal, terms)) {
        computeMs += admitted.result.computeMs;
        yield admitted;
        endMs = lastResultMs = clock.monotonicMs();
      }
      steps.push({
        ...{ deliveryCount: orders.length, computeMs, serialMs, dispatchMs: endMs - startMs },
        cost: orders.reduce((sum, order) => sum + costOf(order), 0),
        processorMs: processorMs() - startProcessorMs,
        denseByteCount: orders[0]?.dense.byteLength ?? 0,
        hasRowPacks: orders.some(({ rowPack }) => rowPack !== null),
      });
    },
    close: () => inner.close(),
  };
  return { dispatcher, steps };
}

function costOf({ job: { work } }: JobOrder): number {
  const shapes = work.kind === 'gradient' ? work.leaves.shapes : [];
  return shapes.reduce((sum, [, taskCount, supportExtent, queryExtent, flatExtent]) => {
    const padded = { taskPlaces: [], taskCount, supportExtent, queryExtent, flatExtent };
    return sum + paddedRowCountOf(padded) + CALL_OVERHEAD_ROWS;
  }, 0);
}

/** @param steps at least one, without those in which the worker still compiled graphs */
export function stepCosts(steps: readonly MeasuredStep[]): StepCosts {
  const middle = (valueOf: (step: MeasuredStep) => number): number => median(steps.map(valueOf));
  const total = (valueOf: (step: MeasuredStep) => number): number =>
    steps.reduce((sum, step) => sum + valueOf(step), 0);
  const serialMs = middle((step) => step.serialMs ?? 0);
  // A mean, because the kernel counts in ticks that are longer than many a step.
  const coordinatorMsPerDelivery =
    total((step) => step.processorMs) / total((step) => step.deliveryCount);
  const idleMs = middle((step) => (step.dispatchMs - step.computeMs) / step.deliveryCount);
  const { denseByteCount, hasRowPacks } = at(steps, 0);
  return {
    ...{ serialMs, coordinatorMsPerDelivery, denseByteCount, hasRowPacks },
    msPerCost: middle(({ computeMs, cost }) => computeMs / cost),
    workerMsPerDelivery: Math.max(0, idleMs - coordinatorMsPerDelivery),
    stepMs: serialMs + middle((step) => step.dispatchMs),
  };
}
