/** A micro-batch of tasks as methods see it (`shared/methods/method.ts`). */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { AdaptingTasks } from '../../../shared/methods/method.js';
import { sharedFields, variableOf } from '../models/fields.js';
import { modelPlanOf } from '../models/model-plan.js';
import type { JobTensors } from './passes.js';

export function adaptingTasksOf(job: JobTensors): AdaptingTasks {
  const { engine, spec, taskCount, dense } = job;
  const { tf, kernels } = engine;
  return {
    tf,
    taskCount,
    personal: spec.variables.filter(({ block }) => block === 'personal').map(({ name }) => name),
    variable: (name) => variableOf(dense, name),
    repeatByTask: (x) => kernels.repeatByTask(x, taskCount),
    attributes: (names) => attributesOf(job, names),
    supportRowExtent: job.batchOf('support')?.impressionShares.shape[1] ?? 0,
    supportTotals: () => {
      const totals = job.batchOf('support')?.totals;
      const none = (): tfjs.Tensor1D => tf.zeros<tfjs.Rank.R1>([taskCount]);
      return totals ?? { impressions: none(), clicks: none() };
    },
  };
}

function attributesOf(job: JobTensors, names: readonly string[]): tfjs.Tensor2D {
  const { engine, spec, rows, dense } = job;
  const { tf } = engine;
  const data = job.batchOf('first');
  if (data === null) throw new Error('the method reads no attributes');
  const pack = rows ?? tf.zeros<tfjs.Rank.R2>([1, spec.tableRowWidth]);
  // Nothing of a task's first row is adapted: a plan without personal blocks.
  const fields = sharedFields(engine, modelPlanOf(spec, false), data, pack, dense);
  if (fields === null) throw new Error('the model has no features');
  const places = fieldNamesOf(spec);
  const width = spec.tableRowWidth;
  const parts = names.map((name) => {
    const place = places.indexOf(name);
    if (place < 0) throw new Error(`the model has no feature ${name}`);
    return tf.slice(fields, [0, place * width], [fields.shape[0], width]);
  });
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : tf.concat(parts, 1);
}

/** Features in the order of the forward pass. */
function fieldNamesOf(spec: ModelSpec): string[] {
  return [
    ...spec.categoryFeatures,
    ...spec.bagFeatures.map(({ name }) => name),
    ...spec.numberFeatures,
  ];
}
