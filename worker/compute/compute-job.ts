/** From a job's bytes to its output's bytes: everything between is synchronous, in one scope. */

import type * as tfjs from '@tensorflow/tfjs';
import { assertNever, QianmoError } from '../../shared/errors.js';
import type { JobInput, JobOutput } from '../../shared/job-executor.js';
import { modelSpecOf, type ModelSpec } from '../../shared/models/model-spec.js';
import type { GradientWork, PredictWork } from '../../shared/protocol.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { layoutDifferences, type DenseTensor } from '../../shared/tensors/named-tensors.js';
import {
  decodeTensors,
  encodeTensors,
  type CodedTensor,
} from '../../shared/tensors/tensor-codec.js';
import { withoutTensorsLeft, type Engine } from './engine/load-engine.js';
import type { JobTensors } from './methods/method.js';
import { runMethod } from './methods/methods.js';
import { predictLogits } from './predict.js';
import { localIdsByTable, rowBatchOf, type RowBatch, type RowRole } from './row-batch.js';

type ComputedJob = Omit<JobOutput, 'computeMs' | 'backend'>;

/**
 * Synchronous; leaves no tensor behind.
 *
 * @throws QianmoError of kind `data` when the tensors do not fit the model or the tasks.
 */
export function computeJob(
  engine: Engine,
  input: JobInput,
  features: readonly EncodedFeature[],
  tasks: readonly TaskRows[],
): ComputedJob {
  const { job } = input;
  const spec = modelSpecOf(job.model, features);
  const layout = rowPackLayoutOf(tasks);
  const where = `job ${job.jobIndex} of outer step ${job.outerStep} of run ${job.runId}`;
  const dense = floatTensors(input.dense, `dense of ${where}`);
  requireLayout(dense, new Map(spec.variables.map((v) => [v.name, v])), `dense of ${where}`);
  const pack = floatTensors(input.rowPack, `row pack of ${where}`);
  const packShape = [layout.rowCount, spec.tableRowWidth];
  requireLayout(pack, new Map([['rows', { shape: packShape }]]), `row pack of ${where}`);

  const localIds = localIdsByTable(layout);
  const batches = new Map<RowRole, RowBatch>();
  const batchOf = (role: RowRole): RowBatch => {
    const batch = batches.get(role) ?? rowBatchOf(tasks, role, localIds);
    batches.set(role, batch);
    return batch;
  };
  return withoutTensorsLeft(engine, () => {
    const tensors: JobTensors = {
      engine,
      spec,
      taskCount: tasks.length,
      dense: new Map([...dense].map(([name, t]) => [name, onDevice(engine, t)])),
      rows: packTensor(engine, pack.get('rows')),
      batchOf,
    };
    switch (job.work.kind) {
      case 'gradient':
        return gradientJob(tensors, job.work, spec, pack.get('rows'), where);
      case 'predict':
        return predictJob(tensors, job.work);
      default:
        return assertNever(job.work);
    }
  });
}

function gradientJob(
  tensors: JobTensors,
  work: GradientWork,
  spec: ModelSpec,
  rows: DenseTensor | undefined,
  where: string,
): ComputedJob {
  const { engine, taskCount, batchOf } = tensors;
  const { taskWeights, coldTaskWeights, method } = work;
  const coldWeightCount = coldTaskWeights?.length ?? (needsColdWeights(method) ? 0 : taskCount);
  if (taskWeights.length !== taskCount || coldWeightCount !== taskCount)
    throw new QianmoError({
      kind: 'data',
      what: 'a job needs one weight per task',
      where,
      expected: `${taskCount} weights, and as many of a cold term`,
      found: `${taskWeights.length} and ${coldWeightCount}`,
    });
  const result = runMethod(method, tensors, {
    warm: engine.tf.tensor1d(taskWeights, 'float32'),
    cold: engine.tf.tensor1d(coldTaskWeights ?? taskWeights, 'float32'),
  });
  const output = new Map<string, CodedTensor>();
  for (const { name, shape } of spec.variables) {
    const gradient = result.gradients.get(name);
    const values = gradient?.dataSync<'float32'>() ?? zeros(shape);
    output.set(name, { shape, values });
  }
  if (rows !== undefined) {
    const values = result.rowGradient?.dataSync<'float32'>() ?? zeros(rows.shape);
    output.set('rows', { shape: rows.shape, values });
  }
  return {
    output: encodeTensors(output),
    weightedQueryLoss: weightedSum(taskWeights, result.queryLosses),
    weightedSupportLoss: weightedSum(taskWeights, result.supportLosses),
    queryRowCount: batchOf(method.kind === 'global' ? 'all' : 'query').rowCount,
  };
}

function needsColdWeights(method: GradientWork['method']): boolean {
  return method.kind === 'fomaml' && method.coldShare > 0;
}

function predictJob(tensors: JobTensors, work: PredictWork): ComputedJob {
  const { rowCount } = tensors.batchOf(work.rows);
  const shape = [work.adaptations.length, rowCount];
  const values = predictLogits(tensors, work);
  return {
    output: encodeTensors(new Map([['logits', { shape, values }]])),
    weightedQueryLoss: 0,
    weightedSupportLoss: 0,
    queryRowCount: rowCount,
  };
}

function weightedSum(weights: readonly number[], losses: tfjs.Tensor1D | null): number {
  if (losses === null) return 0;
  return losses
    .dataSync<'float32'>()
    .reduce((sum: number, loss: number, index: number) => sum + (weights[index] ?? 0) * loss, 0);
}

function zeros(shape: readonly number[]): Float32Array {
  return new Float32Array(shape.reduce((product, extent) => product * extent, 1));
}

function onDevice({ tf }: Engine, { shape, values }: DenseTensor): tfjs.Tensor {
  return tf.tensor(values, [...shape], 'float32');
}

function packTensor({ tf }: Engine, rows: DenseTensor | undefined): tfjs.Tensor2D | null {
  if (rows === undefined) return null;
  const [rowCount = 0, width = 0] = rows.shape;
  return rowCount === 0 || width === 0 ? null : tf.tensor2d(rows.values, [rowCount, width]);
}

function floatTensors(bytes: Uint8Array, where: string): Map<string, DenseTensor> {
  const tensors = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of decodeTensors(bytes, where)) {
    if (!(values instanceof Float32Array))
      throw new QianmoError({
        kind: 'data',
        what: `the tensor ${name} is not of 32-bit floats`,
        where,
      });
    tensors.set(name, { shape, values });
  }
  return tensors;
}

function requireLayout(
  found: ReadonlyMap<string, DenseTensor>,
  expected: ReadonlyMap<string, { readonly shape: readonly number[] }>,
  where: string,
): void {
  const layout = new Map(
    [...expected].map(([name, { shape }]) => [name, { shape, values: new Float32Array() }]),
  );
  const differences = layoutDifferences(found, layout);
  if (differences.length === 0) return;
  throw new QianmoError({
    kind: 'data',
    what: 'the tensors of a job do not fit its model and tasks',
    where,
    found: differences.join('; '),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}
