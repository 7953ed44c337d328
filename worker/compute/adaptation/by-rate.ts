/** Cells of one inner rate share one inner loop, which stops at each of their numbers of steps. */

import type * as tfjs from '@tensorflow/tfjs';
import { shiftsAfter, type OnAdapted, type PlacedCell } from './adapted-batch.js';
import type { AdaptingBatch, StepSupport } from './adapting-batch.js';
import { SteppingTasks, type CapturedStep } from './inner-steps.js';

export function adaptByRate(
  batch: AdaptingBatch & { readonly step: CapturedStep; readonly support: StepSupport },
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  const { step, support, initial, microBatch, job } = batch;
  for (const rate of new Set(cells.map(({ innerRate }) => innerRate))) {
    const ofRate = cells.filter(({ innerRate }) => innerRate === rate);
    const stepCount = Math.max(...ofRate.map(({ innerSteps }) => innerSteps));
    const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
    const tasks = new SteppingTasks(step, initial);
    for (let done = 1; done <= stepCount; done += 1) {
      tasks.step(support, rates);
      const ending = ofRate.filter(({ innerSteps }) => innerSteps === done);
      if (ending.length === 0) continue;
      const { state } = tasks;
      onAdapted(
        ending.map(({ place }) => place),
        { state, shift: shiftsAfter(batch, state) },
      );
    }
    tasks.dispose();
  }
}
