/** The support loss that training reports, beside batches of trunk rows, which have no support rows. */

import { describe, expect, it } from 'vitest';
import { withSupportOfAdgroups } from '../../../../coordinator/training/losses/support-loss.js';
import type { StepPlan } from '../../../../coordinator/plan/step-plan.js';
import { MethodConfigSchema } from '../../../../shared/methods/methods.js';
import type { TaskEntry } from '../../../../shared/tasks/task-store.js';

const entryOf = (split: TaskEntry['split'], taskIndex: number): TaskEntry => ({
  ...{ taskIndex, key: `task ${taskIndex}`, split },
  firstSeenTime: null,
  ...{ supportRowCount: split === 'trunk' ? 0 : 2, queryRowCount: 2 },
});
const store = {
  tasks: (['train', 'trunk', 'train', 'train'] as const).map((split, index) =>
    entryOf(split, index),
  ),
};
const jobOf = (
  jobIndex: number,
  taskIndices: number[],
  taskWeights: number[],
): StepPlan['jobs'][number] => ({
  ...{ jobIndex, taskIndices, taskWeights, coldTaskWeights: null, drawnRows: null, rowCount: 8 },
  sizes: { bucketByTask: [], taskCounts: [], weights: [] },
  ...{ neighbours: {}, cut: [], layout: { idsByTable: [], startByTable: [], rowCount: 0 } },
});
const plan = { jobs: [jobOf(0, [0, 1], [0.25, 0.5]), jobOf(1, [2, 3], [0.125, 0.125])] };
const maml = MethodConfigSchema.parse({ kind: 'maml' });
const losses = { queryLoss: 0.7, queryLossBefore: null, supportLoss: 0.3, bySize: null };

describe('the reported support loss', () => {
  it('is the mean over the adgroups, whose weights are half of all', () => {
    // The batch adds 0 with the weight 0.5: 0.3 / 0.5.
    const reported = withSupportOfAdgroups(losses, { plan, store, method: maml, leftOut: [] });
    expect(reported).toEqual({ ...losses, supportLoss: 0.6 });
  });

  it('counts no job that the step ended without', () => {
    // Of the job that is left, a third is an adgroup's.
    const step = { plan, store, method: maml, leftOut: [1] };
    expect(withSupportOfAdgroups(losses, step).supportLoss).toBeCloseTo(0.9, 12);
  });

  it('is left as it is where nothing adapts, and where there are only adgroups', () => {
    const global = MethodConfigSchema.parse({ kind: 'global' });
    const step = { plan, store, method: global, leftOut: [] };
    expect(withSupportOfAdgroups(losses, step)).toBe(losses);
    const adgroups = { jobs: plan.jobs.slice(1) };
    expect(
      withSupportOfAdgroups(losses, { plan: adgroups, store, method: maml, leftOut: [] }),
    ).toEqual(losses);
  });
});
