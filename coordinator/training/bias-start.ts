/** The output bias of a run that starts at the click rate of its training tasks (`training.biasStart`). */

import { spreadOver } from '../../shared/base/arrays.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { clickRateOf } from '../scoring/held-out-rows.js';
import type { TrainingState } from '../checkpoints/training-state.js';

/** Enough for a rate to be known well within what training moves the bias by. */
const TASKS_READ_MAX = 2_000;

/**
 * The state at outer step 0 with the bias at the logit of the click rate: that of the first segment with clicks, where
 * there are several. Where all labels are values, it stays at 0, the mean of standardised values.
 */
export async function withBiasStart(
  state: TrainingState,
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
): Promise<TrainingState> {
  if (config.training.biasStart !== 'click-rate') return state;
  const ofClicks = labelsOf(store.manifest).findIndex(({ loss }) => loss === 'binary');
  const tasks = store.tasks
    .filter(
      ({ split, labelIndex = 0 }) =>
        (split === 'train' || split === 'trunk') && labelIndex === ofClicks,
    )
    .map(({ taskIndex }) => taskIndex);
  if (tasks.length === 0) return state;
  const rate = await clickRateOf(store, spreadOver(tasks, TASKS_READ_MAX));
  const dense = new Map(state.metaParameters.dense);
  dense.set('bias', { shape: [1], values: Float32Array.of(Math.log(rate / (1 - rate))) });
  return { ...state, metaParameters: { ...state.metaParameters, dense } };
}
