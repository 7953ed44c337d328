/** Inner steps of a prediction: on the whole support set, or on one minibatch of it after another. */

import type * as tfjs from '@tensorflow/tfjs';
import { phaseMinibatches, type RowDivision } from '../../../shared/tasks/row-division.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import type { PredictionFunctions, StepInput } from './captured-prediction.js';
import { batchesOf, type DeviceJob } from './job-batches.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type { BatchInput } from '../meta-gradients/passes.js';
import { rowExtent, type MicroBatch } from '../batches/micro-batches.js';
import type { RowRole } from '../batches/row-batch.js';

type PhaseDivision = Extract<RowDivision, { readonly by: 'phases' }>;

export type StepSupport = Omit<StepInput, 'state' | 'rates'>;

/** What steps on each phase's minibatch read; a phase in which no task has a row is left out. */
export function phaseSupports(
  functions: PredictionFunctions,
  job: DeviceJob,
  microBatch: MicroBatch,
  input: BatchInput,
  division: PhaseDivision,
): StepSupport[] {
  const supportExtent = rowExtent(division.rowsPerPhase);
  const byTask = job.tasks.map((task) => phaseMinibatches(task, division));
  return Array.from({ length: division.phase }, (_, phase) => {
    const tasks = byTask.flatMap((minibatches) => minibatches[phase] ?? []);
    if (microBatch.taskPlaces.every((place) => tasks[place]?.rowCount === 0)) return [];
    const hasTotals = input.batches.support?.totals !== undefined;
    const minibatch = { ...microBatch, supportExtent, queryExtent: 0 };
    const roles = (['support', 'first', 'neighbours'] as const).filter(
      (role) => role === 'support' || input.batches[role] !== undefined,
    );
    const tasksOf = (role: RowRole): readonly TaskRows[] =>
      role === 'support' ? tasks : job.tasks;
    const ofPhase = { ...input, ...batchesOf(job, minibatch, roles, hasTotals, tasksOf) };
    const { trunks } = functions.start.run(ofPhase);
    return trunks.support === undefined ? [] : [{ ...ofPhase, trunk: trunks.support }];
  }).flat();
}

/** After so many steps on each minibatch in turn; a phase goes on from the blocks of the one before. */
export function stateAfterPhases(
  functions: PredictionFunctions,
  supports: readonly StepSupport[],
  initial: LoopState,
  rates: tfjs.Tensor1D,
  innerSteps: number,
): LoopState {
  let state = initial;
  for (const support of supports)
    for (let stepIndex = 0; stepIndex < innerSteps; stepIndex += 1) {
      const moved = stepped(functions, stepIndex, support, state, rates);
      if (state !== initial && moved !== state)
        for (const tensor of Object.values(state)) tensor.dispose();
      state = moved;
    }
  return state;
}

/** Without support rows or personal blocks nothing moves. */
export function stepped(
  { stepAt }: PredictionFunctions,
  stepIndex: number,
  support: StepSupport | null,
  state: LoopState,
  rates: tfjs.Tensor1D,
): LoopState {
  return stepAt === null || support === null
    ? state
    : stepAt(stepIndex).run({ ...support, state, rates });
}
