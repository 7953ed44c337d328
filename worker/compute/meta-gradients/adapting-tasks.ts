/** A micro-batch of tasks as methods see it (`shared/methods/inner-loop/inner-loop.ts`). */

import type * as tfjs from '@tensorflow/tfjs';
import type {
  AdaptingTasks,
  SupportFields,
} from '../../../shared/methods/inner-loop/inner-loop.js';
import { featureNamesOf } from '../../../shared/methods/inner-loop/support-features.js';
import { placeCountsOf, type BatchTensors } from '../models/device-tasks.js';
import { modelPlanOf, sharedFields } from '../models/fields.js';
import { variableOf } from '../models/staged-pass.js';
import { tableRowsOf, type JobTensors } from './passes.js';

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
    supportTotals: () => {
      const totals = job.batchOf('support')?.totals;
      const none = (): tfjs.Tensor1D => tf.zeros<tfjs.Rank.R1>([taskCount]);
      return totals ?? { impressions: none(), clicks: none() };
    },
    supportFields: (names) => supportFieldsOf(job, names ?? featureNamesOf(spec)),
  };
}

function supportFieldsOf(job: JobTensors, names: readonly string[]): SupportFields | null {
  const data = job.batchOf('support');
  if (data === null) return null;
  const { taskCount, rowExtent } = placeCountsOf(data);
  const fields = namedFields(job, data, names);
  return {
    fields: job.engine.tf.reshape(fields, [taskCount, rowExtent, -1]),
    impressionShares: data.impressionShares,
    clickShares: data.clickShares,
  };
}

function attributesOf(job: JobTensors, names: readonly string[]): tfjs.Tensor2D {
  const data = job.batchOf('first');
  if (data === null) throw new Error('the method reads no attributes');
  return namedFields(job, data, names);
}

/** Unadapted fields of rows in the order of `names`, `[placeCount, sum of widths]`. */
function namedFields(job: JobTensors, data: BatchTensors, names: readonly string[]): tfjs.Tensor2D {
  const { engine, spec, dense } = job;
  const { tf } = engine;
  const plan = modelPlanOf(spec, false);
  const fields = sharedFields(engine, plan, { data, rows: tableRowsOf(job), trunk: dense });
  if (fields === null) throw new Error('the model has no features');
  const places = featureNamesOf(spec);
  const width = spec.tableRowWidth;
  if (fields.shape[1] === names.length * width && names.every((name, at) => name === places[at]))
    return fields;
  const parts = names.map((name) => {
    const place = places.indexOf(name);
    if (place < 0) throw new Error(`the model has no feature ${name}`);
    return tf.slice(fields, [0, place * width], [fields.shape[0], width]);
  });
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : tf.concat(parts, 1);
}
