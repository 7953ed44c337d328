/**
 * Predicts the throughput of a run on any number of workers, from its real plans. Nothing overlaps in the model:
 *
 *   step = serial + the longest share of a worker + coordinator for each delivery + bytes at the rate of the queue server
 */

import { at, median } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { denseCountOf, learnedIdsOf, rowCountOf } from '../../shared/sums/gradient-node.js';
import type { LeafRange } from '../../shared/sums/sum-tree.js';
import { CALL_OVERHEAD_ROWS, paddedRowCountOf } from '../../shared/tasks/micro-batches.js';
import type { Dispatcher, JobOrder } from '../dispatch/dispatcher.js';
import { cutIntoDeliveries, type CostedLeaf } from './deliveries.js';
import { layoutOf, type StepPlan } from './step-plan.js';

/** The things that outer steps draw, and a throughput counts. */
export type Drawn = 'tasks' | 'rows';

/** The part that takes most of a step. With `leaves`, more workers do not help: the largest leaf is all that one computes. */
export type Bound = 'workers' | 'leaves' | 'coordinator' | 'bytes';

export interface Prediction {
  readonly workerCount: number;
  /** Tasks, or drawn rows. */
  readonly perSecond: number;
  /** By how much faster than with one worker. */
  readonly speedup: number;
  readonly stepMs: number;
  /** The parts of the step; means. */
  readonly workersMs: number;
  readonly coordinatorMs: number;
  readonly bytesMs: number;
  readonly deliveryCount: number;
  readonly byteCount: number;
  readonly bound: Bound;
}

/** An outer step, as far as its time depends on it. */
export interface PlannedStep {
  readonly leaves: readonly CostedLeaf[];
  /** The bytes of a delivery, to a worker and back. */
  byteCountOf(delivery: LeafRange): number;
}

export function plannedStep(plan: Pick<StepPlan, 'leaves'>, spec: ModelSpec): PlannedStep {
  const width = spec.tableRowWidth;
  return {
    leaves: plan.leaves,
    byteCountOf(delivery) {
      const layout = layoutOf(plan, delivery);
      const sumRowCount = rowCountOf(learnedIdsOf(spec, layout));
      const valueCount = (layout.rowCount + sumRowCount) * width + denseCountOf(spec);
      return valueCount * Float32Array.BYTES_PER_ELEMENT;
    },
  };
}

interface Terms {
  readonly costs: StepCosts;
  /** Tasks or rows of an outer step. */
  readonly drawnCount: number;
  /** The bytes that the queue server sends in a millisecond. */
  readonly bytesPerMs: number;
}

/** @param steps at least one; predictions are means over them */
export function capacityPlan(
  steps: readonly PlannedStep[],
  workerCounts: readonly number[],
  terms: Terms,
): Prediction[] {
  const aloneMs = predicted(steps, 1, terms).stepMs;
  return workerCounts.map((workerCount) => {
    const { stepMs, ...parts } = predicted(steps, workerCount, terms);
    const perSecond = (terms.drawnCount * 1000) / stepMs;
    return { ...parts, stepMs, perSecond, speedup: aloneMs / stepMs };
  });
}

function predicted(
  steps: readonly PlannedStep[],
  workerCount: number,
  { costs, bytesPerMs }: Terms,
): Omit<Prediction, 'perSecond' | 'speedup'> {
  const parts = steps.map((step) => {
    const { leaves } = step;
    // The cut is the same for all workers beyond one for each leaf.
    const busyCount = Math.min(workerCount, leaves.length);
    const { msPerCost, denseByteCount } = costs;
    const deliveries = cutIntoDeliveries(leaves, { workerCount: busyCount, msPerCost });
    const costsOfDeliveries = deliveries.map(({ first, end }) =>
      leaves.slice(first, end).reduce((sum, { cost }) => sum + cost, 0),
    );
    const longestLeaf = Math.max(...leaves.map(({ cost }) => cost));
    const ownByteCount = deliveries.reduce((sum, each) => sum + step.byteCountOf(each), 0);
    return {
      workersMs: longestShareMs(costsOfDeliveries, busyCount, costs),
      leafMs: longestLeaf * msPerCost + costs.workerMsPerDelivery,
      deliveryCount: deliveries.length,
      byteCount: ownByteCount + denseByteCount * Math.min(busyCount, deliveries.length),
    };
  });
  const mean = (valueOf: (part: (typeof parts)[number]) => number): number =>
    parts.reduce((sum, part) => sum + valueOf(part), 0) / parts.length;
  const workersMs = mean((part) => part.workersMs);
  const deliveryCount = mean((part) => part.deliveryCount);
  const byteCount = mean((part) => part.byteCount);
  const coordinatorMs = costs.serialMs + costs.coordinatorMsPerDelivery * deliveryCount;
  const bytesMs = byteCount / bytesPerMs;
  const isLeafLong = workersMs <= mean((part) => part.leafMs);
  const longestMs = Math.max(workersMs, coordinatorMs, bytesMs);
  const others = longestMs === coordinatorMs ? 'coordinator' : 'bytes';
  return {
    ...{ workerCount, workersMs, coordinatorMs, bytesMs, deliveryCount, byteCount },
    stepMs: workersMs + coordinatorMs + bytesMs,
    bound: longestMs !== workersMs ? others : isLeafLong ? 'leaves' : 'workers',
  };
}

/** Each worker takes the next delivery as soon as it is free. */
function longestShareMs(
  descending: readonly number[],
  workerCount: number,
  { msPerCost, workerMsPerDelivery }: StepCosts,
): number {
  const shares = new Float64Array(workerCount);
  for (const cost of descending) {
    const free = shares.indexOf(Math.min(...shares));
    shares[free] = at(shares, free) + cost * msPerCost + workerMsPerDelivery;
  }
  return Math.max(...shares);
}

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
