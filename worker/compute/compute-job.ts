/** From a job's bytes to its output's bytes: everything between is synchronous, in one scope. */

import { assertNever, QianmoError } from '../../shared/errors.js';
import type { JobInput, JobOutput } from '../../shared/job-executor.js';
import { coldShareOf, methodPlanOf } from '../../shared/methods/methods.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { GradientWork, PredictWork } from '../../shared/protocol.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { layoutDifferences, type DenseTensor } from '../../shared/tensors/named-tensors.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import type { Computations } from './computations.js';
import { withoutTensorsLeft } from './engine/load-engine.js';
import { gradientOf } from './gradient-job.js';
import { deviceJobOf, type DeviceJob } from './job-batches.js';
import { predictLogits } from './predict.js';

/** What a job needs of its store. */
export interface JobTasks {
  readonly features: readonly EncodedFeature[];
  readonly tasks: readonly TaskRows[];
  /** Of each task, see `job-neighbours.ts`; empty when the method reads none. */
  readonly neighbours: readonly (readonly TaskRows[])[];
}

type ComputedJob = Omit<JobOutput, 'computeMs' | 'backend'>;

/**
 * Synchronous; leaves no tensor behind, but captured functions with `computations`.
 *
 * @param microBatchRowsMax less than the job's where the device has too little memory.
 * @throws QianmoError of kind `data` when the tensors do not fit the model or the tasks.
 */
export function computeJob(
  computations: Computations,
  input: JobInput,
  { features, tasks, neighbours }: JobTasks,
  microBatchRowsMax = input.job.microBatchRowsMax,
): ComputedJob {
  const { job } = input;
  const { engine } = computations;
  const spec = modelSpecOf(job.model, features, job.work.method);
  const layout = rowPackLayoutOf([...tasks, ...neighbours.flat()]);
  const where = `job ${job.jobIndex} of outer step ${job.outerStep} of run ${job.runId}`;
  const dense = floatTensors(input.dense, `dense of ${where}`);
  requireLayout(dense, new Map(spec.variables.map((v) => [v.name, v])), `dense of ${where}`);
  const pack = floatTensors(input.rowPack, `row pack of ${where}`);
  const packShape = [layout.rowCount, spec.tableRowWidth];
  requireLayout(pack, new Map([['rows', { shape: packShape }]]), `row pack of ${where}`);
  if (job.work.kind === 'gradient') requireWeights(job.work, tasks.length, where);

  return withoutTensorsLeft(engine, () => {
    const rows = pack.get('rows') ?? { shape: [0, 0], values: new Float32Array() };
    const onDevice = deviceJobOf(engine, spec, { tasks, neighbours }, layout, dense, rows);
    switch (job.work.kind) {
      case 'gradient':
        return gradientJob(computations, onDevice, job.work, microBatchRowsMax);
      case 'predict':
        return predictJob(computations, onDevice, job.work, microBatchRowsMax);
      default:
        return assertNever(job.work);
    }
  });
}

function requireWeights(work: GradientWork, taskCount: number, where: string): void {
  const { taskWeights, coldTaskWeights, stepWeights, method } = work;
  const innerSteps = methodPlanOf(method).innerLoop?.innerSteps ?? 0;
  if (stepWeights !== undefined && stepWeights.length !== innerSteps)
    throw new QianmoError({
      kind: 'data',
      what: 'a job needs one weight per inner step',
      where: `stepWeights of ${where}`,
      expected: `${innerSteps} weights, as method.innerSteps has it`,
      found: String(stepWeights.length),
      cure: 'coordinator and worker must run the same version; a method weighs each of its inner steps',
    });
  const coldWeightCount = coldTaskWeights?.length ?? (coldShareOf(method) > 0 ? 0 : taskCount);
  if (taskWeights.length === taskCount && coldWeightCount === taskCount) return;
  throw new QianmoError({
    kind: 'data',
    what: 'a job needs one weight per task',
    where,
    expected: `${taskCount} weights, and as many of a cold term`,
    found: `${taskWeights.length} and ${coldWeightCount}`,
  });
}

function gradientJob(
  computations: Computations,
  job: DeviceJob,
  work: GradientWork,
  microBatchRowsMax: number,
): ComputedJob {
  const { tensors, queryLosses, supportLosses } = gradientOf(
    computations,
    job,
    work,
    microBatchRowsMax,
  );
  const isDivided = methodPlanOf(work.method).innerLoop !== null;
  return {
    output: encodeTensors(tensors),
    weightedQueryLoss: weightedSum(work.taskWeights, queryLosses),
    weightedSupportLoss: weightedSum(work.taskWeights, supportLosses),
    queryRowCount: job.tasks.reduce(
      (sum, { rowCount, supportRowCount }) => sum + rowCount - (isDivided ? supportRowCount : 0),
      0,
    ),
  };
}

function predictJob(
  computations: Computations,
  job: DeviceJob,
  work: PredictWork,
  microBatchRowsMax: number,
): ComputedJob {
  const { values, rowCount } = predictLogits(computations, job, work, microBatchRowsMax);
  const shape = [work.adaptations.length, rowCount];
  return {
    output: encodeTensors(new Map([['logits', { shape, values }]])),
    weightedQueryLoss: 0,
    weightedSupportLoss: 0,
    queryRowCount: rowCount,
  };
}

function weightedSum(weights: readonly number[], losses: Float64Array): number {
  return weights.reduce((sum, weight, index) => sum + weight * (losses[index] ?? 0), 0);
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
