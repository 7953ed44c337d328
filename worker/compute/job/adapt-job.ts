/** An adapt job: its tasks after their adaptation, as a scorer needs them. */

import { at } from '../../../shared/base/arrays.js';
import {
  LEVEL_DEVIATION,
  LOG_DEVIATION_SCALE,
  VALUE_DEVIATIONS,
} from '../../../shared/methods/inner-loop/level-shift-settings.js';
import { restsOnSupport } from '../../../shared/methods/inner-loop/inner-loop.js';
import { predictionLoopOf } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import {
  adaptedLayoutOf,
  encodeAdaptedTasks,
  type AdaptedTask,
} from '../../../shared/queue/blobs/adapted-tasks.js';
import type { AdaptWork } from '../../../shared/queue/protocol.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { adaptCells } from '../adaptation/adapt-cells.js';
import type { AdaptedBatch } from '../adaptation/adapted-batch.js';
import {
  adaptingBatchOf,
  adaptingMicroBatches,
  type Adapting,
  type AdaptingBatch,
} from '../adaptation/adapting-batch.js';
import { supportSumsOf } from '../batches/support-inputs.js';
import { named } from '../meta-gradients/tensors-by-name.js';
import { shiftColumnsOf, supportValuesOf, taskShiftOf } from '../scoring/row-shifts.js';
import { adaptingOf, type Computations } from './computations.js';
import type { DeviceJob } from './device-job.js';

/** The output blob. */
export function adaptedTasksOfJob(
  computations: Computations,
  job: DeviceJob,
  work: AdaptWork,
  microBatchRowsMax: number,
): Uint8Array {
  const plan = methodPlanOf(work.method);
  const loop = predictionLoopOf(plan);
  const adapting = adaptingOf(computations, job, work);
  const isAdapting = restsOnSupport(loop, work.adaptation.innerSteps);
  // Query rows are not read, but decide the cut, so that it is that of a predict job.
  const rows = { isAdapting, hasQuery: true };
  const microBatches = adaptingMicroBatches(plan, job, rows, microBatchRowsMax);
  const tasks = new Array<AdaptedTask>(job.tasks.length);
  const count = microBatches.length;
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    job.engine.tf.tidy(() => {
      const batch = adaptingBatchOf(adapting, microBatch);
      adaptCells(batch, [work.adaptation], (_, adapted) => {
        for (const [place, task] of adaptedTasksIn(batch, adapted)) tasks[place] = task;
      });
    });
  }
  const layout = adaptedLayoutOf(job.spec, work);
  const shiftVariances =
    layout.shiftedFeatures === null ? null : shiftVariancesOf(adapting, work.adaptation.innerRate);
  return encodeAdaptedTasks(layout, { tasks, shiftVariances });
}

/** The tasks of a micro-batch by their places in the job. */
function adaptedTasksIn(
  { job, loop, microBatch }: AdaptingBatch,
  { state, shift }: AdaptedBatch,
): Map<number, AdaptedTask> {
  const columns = shiftColumnsOf(loop.shift, job.spec);
  const blocks = job.spec.variables
    .filter(({ block }) => block === 'personal')
    .map(({ name, shape }) => ({ name, shape, values: named(state, name).dataSync<'float32'>() }));
  return new Map(
    microBatch.taskPlaces.map((place, index): [number, AdaptedTask] => {
      const task = at(job.tasks, place);
      const { supportExtent } = microBatch;
      const blockAt = (values: Float32Array): Float32Array => {
        const size = values.length / microBatch.taskCount;
        return values.slice(index * size, (index + 1) * size);
      };
      return [
        place,
        {
          taskIndex: task.taskIndex,
          loss: task.loss ?? 'binary',
          isAlone: microBatch.taskCount === 1,
          blocks: new Map(
            blocks.map(({ name, shape, values }): [string, DenseTensor] => [
              name,
              { shape, values: blockAt(values) },
            ]),
          ),
          shift:
            shift === null
              ? null
              : taskShiftOf(shift, { index, supportExtent }, supportValuesOf(task, columns)),
          support: supportSumsOf(job.spec, task),
        },
      ];
    }),
  );
}

/** Prior variances of the level and of each feature's values, as the shifts of this rate have them. */
function shiftVariancesOf({ job, loop, functions }: Adapting, innerRate: number): Float32Array {
  const logDeviations = [LEVEL_DEVIATION, VALUE_DEVIATIONS].flatMap((name) => {
    const tensor = job.dense[name];
    return tensor === undefined ? [] : [...tensor.dataSync<'float32'>()];
  });
  const scale = functions.stepAt === null ? innerRate / loop.steps.rate : 1;
  return Float32Array.from(
    logDeviations,
    (deviation) => scale * Math.exp(2 * LOG_DEVIATION_SCALE * deviation),
  );
}
