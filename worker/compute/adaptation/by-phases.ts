/** Takes inner steps on one minibatch of the support rows after another, for a division by phases. */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import { phaseMinibatches, type RowDivision } from '../../../shared/tasks/rows/row-division.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { rowExtent } from '../../../shared/tasks/rows/micro-batches.js';
import type { RowRole } from '../batches/row-batch.js';
import { shiftsAfter, type OnAdapted, type PlacedCell } from './adapted-batch.js';
import { inputOf, supportOf, type AdaptingBatch, type StepSupport } from './adapting-batch.js';
import { SteppingTasks, type CapturedStep } from './inner-steps.js';

interface PhasedBatch extends AdaptingBatch {
  readonly step: CapturedStep;
  readonly division: Extract<RowDivision, { readonly by: 'phases' }>;
}

/** Each phase continues from the blocks of the one before. */
export function adaptByPhases(
  batch: PhasedBatch,
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  if (cells.length === 0) return;
  const { step, initial, microBatch, job } = batch;
  const supports = phaseSupports(batch);
  for (const { place, innerRate, innerSteps } of cells) {
    const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], innerRate);
    const tasks = new SteppingTasks(step, initial);
    for (const support of supports)
      for (let stepIndex = 0; stepIndex < innerSteps; stepIndex += 1) tasks.step(support, rates);
    const { state } = tasks;
    onAdapted([place], { state, shift: shiftsAfter(batch, state) });
    tasks.dispose();
  }
}

/** The minibatch of each phase; a phase in which no task has a row is left out. */
function phaseSupports(batch: PhasedBatch): StepSupport[] {
  const { division, job, microBatch, support } = batch;
  const supportExtent = rowExtent(division.rowsPerPhase);
  const minibatch = { ...microBatch, supportExtent, queryExtent: 0 };
  const roles = (['support', 'first'] as const).filter(
    (role) => role === 'support' || support?.input.batches[role] !== undefined,
  );
  const byTask = job.tasks.map((task) => phaseMinibatches(task, division));
  return Array.from({ length: division.phase }, (_, phase) => {
    const tasks = byTask.map((minibatches) => at(minibatches, phase));
    if (microBatch.taskPlaces.every((place) => at(tasks, place).rowCount === 0)) return [];
    const tasksOf = (role: RowRole): readonly TaskRows[] =>
      role === 'support' ? tasks : job.tasks;
    return supportOf(batch, inputOf(batch, minibatch, roles, tasksOf)) ?? [];
  }).flat();
}
