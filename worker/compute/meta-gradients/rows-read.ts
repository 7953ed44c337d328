/** The rows that a method reads: their roles, and their sums. */

import { adapts, type MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { RowRole } from '../batches/row-batch.js';
import { unadaptedRoleOf } from './unadapted.js';

/** Returns whether an inner loop reads the sums over a task's support rows. */
export function readsSupportTotals({ shift, reads }: InnerLoop): boolean {
  return shift !== null || reads.supportTotals === true;
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
  return reads.attributes === true ? ['first'] : [];
}
