/**
 * Predicts the throughput of a run on any number of workers, from its real plans. Nothing overlaps in the model:
 *
 *   step = serial + the longest share of a worker + coordinator for each delivery + bytes at the rate of the queue server
 */

import { at } from '../../shared/base/arrays.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { denseCountOf, learnedIdsOf, rowCountOf } from '../../shared/sums/gradient-node.js';
import type { LeafRange } from '../../shared/sums/sum-tree.js';
import { cutIntoDeliveries, type CostedLeaf } from '../plan/deliveries.js';
import { layoutOf, type StepPlan } from '../plan/step-plan.js';
import type { StepCosts } from './step-costs.js';

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
