/** The rows that a method reads: their roles, the multiples they are padded to, their sums. */

import {
  adapts,
  predictionLoopOf,
  type MethodPlan,
} from '../../../shared/methods/inner-loop/method.js';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { RowMultiples, TaskSize } from '../batches/micro-batches.js';
import type { RowRole } from '../batches/row-batch.js';
import { unadaptedRoleOf } from './unadapted.js';

/** Returns whether an inner loop reads the sums over a task's support rows. */
export function readsSupportTotals({ shift, reads }: InnerLoop): boolean {
  return shift !== null || reads.supportTotals === true;
}

/** Rows that are seen in minibatches are padded to a multiple of the number of minibatches. */
export function rowMultiplesOf(plan: MethodPlan): RowMultiples {
  const { outer, innerLoop } = plan;
  const { supportBatches } = innerLoop.steps;
  const continuesOnQuery = outer.kind === 'displacement' && outer.continuesOnQuery;
  return {
    support: Math.max(supportBatches, predictionLoopOf(plan).steps.supportBatches),
    query: continuesOnQuery ? supportBatches : 1,
  };
}

/** The rows of a task that a micro-batch needs places for: as many of each set where they are pairs. */
export function sizeWithPairs({ innerLoop }: MethodPlan, size: TaskSize): TaskSize {
  if (innerLoop.reads.rowPairs !== true) return size;
  const pairCount = Math.max(size.supportRowCount, size.queryRowCount);
  return { supportRowCount: pairCount, queryRowCount: pairCount };
}

/** The roles whose rows the outer gradient reads. */
export function rolesOf(plan: MethodPlan): readonly RowRole[] {
  if (!adapts(plan)) return [unadaptedRoleOf(plan)];
  const roles = new Set<RowRole>(['support', 'query']);
  if (plan.cold !== null) roles.add(unadaptedRoleOf(plan));
  return [...roles, ...rolesBesideOf(plan.innerLoop)];
}

/** The roles whose rows the query loss before the first inner step reads. */
export function rolesBeforeSteps({ reads, start }: InnerLoop): ReadonlySet<string> {
  const ofStart = start === undefined ? [] : [...rolesBesideOf({ reads }), 'support'];
  return new Set(['query', ...ofStart]);
}

/** The roles whose rows an inner loop reads beside those that are learned from or judged. */
export function rolesBesideOf({ reads }: Pick<InnerLoop, 'reads'>): RowRole[] {
  return [
    ...(reads.attributes === true ? (['first'] as const) : []),
    ...(reads.neighbours === undefined ? [] : (['neighbours'] as const)),
  ];
}
