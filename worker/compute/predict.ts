/**
 * Logits of a job's rows after given numbers of inner steps. Settings of one inner rate share one
 * inner loop, and every rate shares the trunk passes.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { PredictWork } from '../../shared/protocol.js';
import { withoutTensorsLeft } from './engine/load-engine.js';
import { innerStep } from './methods/inner-loop.js';
import {
  logitsOf,
  passOf,
  personalCopies,
  trunkOf,
  type JobTensors,
  type Pass,
} from './methods/method.js';
import type { TrunkPass } from './models/forward.js';
import type { Variables } from './models/fields.js';

/** `[settingCount, rowCount]`: settings and tasks in order of the job, rows in order of the task. */
export function predictLogits(job: JobTensors, work: PredictWork): Float32Array {
  const { engine } = job;
  const { adaptations } = work;
  const target = passOf(job, work.rows, true);
  const { rowCount } = job.batchOf(work.rows);
  const logits = new Float32Array(adaptations.length * rowCount);
  if (target === null) return logits;
  const support = work.rows === 'support' ? target : passOf(job, 'support', true);
  const shared = trunkOf(target);
  const supportShared = support === target ? shared : support === null ? null : trunkOf(support);
  const initial = personalCopies(job, target.plan);

  const emit = (settings: readonly number[], personal: Variables): void => {
    if (settings.length === 0) return;
    const values = withoutTensorsLeft(engine, () => rowLogits(target, shared, personal));
    for (const setting of settings) logits.set(values, setting * rowCount);
  };
  const settingsAt = (steps: number, rate?: number): number[] =>
    [...adaptations.keys()].filter((index) => {
      const setting = adaptations[index];
      return setting?.innerSteps === steps && (rate === undefined || setting.innerRate === rate);
    });

  emit(settingsAt(0), initial);
  for (const rate of new Set(adaptations.map(({ innerRate }) => innerRate))) {
    const ofRate = adaptations.filter(({ innerRate }) => innerRate === rate);
    const stepCount = Math.max(...ofRate.map(({ innerSteps }) => innerSteps));
    let personal: ReadonlyMap<string, tfjs.Tensor> = initial;
    for (let step = 1; step <= stepCount; step += 1) {
      if (support !== null && supportShared !== null)
        personal = movedOnce(support, supportShared, personal, rate, personal !== initial);
      emit(settingsAt(step, rate), personal);
    }
  }
  return logits;
}

/** One inner step that leaves nothing else behind; `disposes` the blocks it started from. */
function movedOnce(
  support: Pass,
  shared: TrunkPass,
  personal: ReadonlyMap<string, tfjs.Tensor>,
  rate: number,
  disposes: boolean,
): ReadonlyMap<string, tfjs.Tensor> {
  const { tf } = support.job.engine;
  const names = [...personal.keys()];
  const moved = tf.tidy(() => [...innerStep(support, shared, personal, rate).personal.values()]);
  if (disposes) tf.dispose([...personal.values()]);
  return new Map(names.map((name, index) => [name, moved[index] as tfjs.Tensor]));
}

/** The logits of the batch's rows without padding. */
function rowLogits(pass: Pass, shared: TrunkPass, personal: Variables): Float32Array {
  const byTask = logitsOf(pass, shared, personal).dataSync<'float32'>();
  return Float32Array.from(pass.data.batch.placeOfRow, (place) => byTask[place] ?? 0);
}
