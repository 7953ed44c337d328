/** Computes a job: from its bytes to the bytes of its output, synchronously and in one scope. */

import { assertNever, QianmoError } from '../../../shared/base/errors.js';
import type { JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import type { GradientWork, TaskJob, PredictWork } from '../../../shared/queue/protocol.js';
import { rowPackLayoutOf, type RowPackLayout } from '../../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import type { TensorLayout } from '../../../shared/tensors/named-tensors.js';
import { encodeTensors, type CodedTensor } from '../../../shared/tensors/tensor-codec.js';
import type { Computations } from './computations.js';
import { withoutTensorsLeft } from '../engine/load-engine.js';
import { gradientOf, jointLayoutOf, leavesOf, type Leaf } from './gradient-job.js';
import { deviceJobOf, type DeviceInputs, type DeviceJob, type SentPack } from './device-job.js';
import { floatTensors, requireLayout, ROWS, variableLayout } from './job-inputs.js';
import { adaptedTasksOfJob } from './adapt-job.js';
import { predictionsOfJob, type RowLogits } from './predict-job.js';

/** The rows of a job, as read from its store. */
export interface JobTasks {
  readonly features: readonly EncodedFeature[];
  readonly tasks: readonly TaskRows[];
  /** By task, see `job-neighbours.ts`; empty when the method reads none. */
  readonly neighbours: readonly (readonly TaskRows[])[];
}

type ComputedJob = Pick<JobOutput, 'output' | 'queryRowCount'>;

/**
 * Leaves no tensor behind; captured functions stay with `computations`.
 *
 * @throws QianmoError of kind `data` when the tensors do not fit the model or the tasks.
 */
export function computeJob(
  computations: Computations,
  input: JobInput,
  { features, tasks, neighbours }: JobTasks,
): ComputedJob {
  const { job } = input;
  const { engine } = computations;
  const where = whereOf(job);
  const spec = specOf(job, features, where);
  if (job.work.kind === 'gradient') requireWeights(job.work, tasks.length, where);
  const { work } = job;
  const leaves = work.kind === 'gradient' ? leavesOf({ tasks, neighbours }, work) : [];
  const inputs = jobInputsOf(computations, input, spec, () =>
    work.kind === 'gradient'
      ? jointLayoutOf(leaves)
      : rowPackLayoutOf([...tasks, ...neighbours.flat()]),
  );
  return withoutTensorsLeft(engine, () => {
    // Leaves have row packs of their own.
    const uploaded = work.kind === 'gradient' ? { ...inputs, pack: null } : inputs;
    const onDevice = {
      ...deviceJobOf(computations, spec, { tasks, neighbours }, uploaded),
      ...unitDropoutOf(job, spec),
    };
    switch (work.kind) {
      case 'gradient':
        return gradientJob(computations, onDevice, work, { leaves, sent: inputs.pack });
      case 'predict':
        return predictJob(computations, onDevice, work, job.microBatchRowsMax);
      case 'adapt':
        return {
          output: adaptedTasksOfJob(computations, onDevice, work, job.microBatchRowsMax),
          queryRowCount: 0,
        };
      default:
        return assertNever(work);
    }
  });
}

/** The spec of the job's model and method. A gradient job may say that less of it learns. */
function specOf(
  { model, work }: TaskJob,
  features: readonly EncodedFeature[],
  where: string,
): ModelSpec {
  const spec = modelSpecOf(model, features, work.method);
  if (work.kind !== 'gradient' || work.learned === undefined) return spec;
  const { learned } = work;
  const known = new Set([...spec.learned.variables, ...spec.learned.tables]);
  const unknown = [...learned.variables, ...learned.tables].filter((name) => !known.has(name));
  if (unknown.length === 0) return { ...spec, learned };
  throw new QianmoError({
    kind: 'data',
    what: 'the job requests gradients of parameters that its method does not train',
    where,
    found: unknown.join(', '),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

function unitDropoutOf(
  { work, outerStep }: TaskJob,
  { kind }: ModelSpec,
): Pick<DeviceJob, 'unitDropout'> {
  if (work.kind !== 'gradient' || !MODELS.get(kind).hasHiddenLayers) return {};
  const { seed, units = 0, inputs = 0 } = work.dropout ?? {};
  if (seed === undefined || (units === 0 && inputs === 0)) return {};
  return { unitDropout: { units, inputs, seed, outerStep } };
}

function whereOf({ jobIndex, outerStep, runId }: TaskJob): string {
  return `job ${jobIndex} of outer step ${outerStep} of run ${runId}`;
}

function jobInputsOf(
  { frozen: cache }: Computations,
  { job, dense, rowPack, frozen }: JobInput,
  spec: ModelSpec,
  layoutOfPack: () => RowPackLayout,
): DeviceInputs {
  const where = whereOf(job);
  const kept = cache.get(job.frozen?.sha256, frozen, `frozen of ${where}`);
  const sent = floatTensors(dense, `dense of ${where}`);
  const all: TensorLayout = new Map<string, { readonly shape: readonly number[] }>([
    ...kept.dense,
    ...[...sent].map(
      ([name, tensor]) => [kept.dense.has(name) ? `${name} twice` : name, tensor] as const,
    ),
  ]);
  requireLayout(all, variableLayout(spec), `dense of ${where}`);
  const width = spec.tableRowWidth;
  if (rowPack === null) {
    const { rows } = kept;
    const rowCount = spec.tables.reduce((sum, table) => sum + table.rowCount, 0);
    requireLayout(
      new Map(rows === null ? [] : [[ROWS, rows]]),
      new Map(rowCount === 0 ? [] : [[ROWS, { shape: [rowCount, width] }]]),
      `frozen tables of ${where}`,
    );
    return { dense: sent, frozen: kept, pack: null };
  }
  const layout = layoutOfPack();
  const pack = floatTensors(rowPack, `row pack of ${where}`);
  const expected = new Map([[ROWS, { shape: [layout.rowCount, width] }]]);
  requireLayout(pack, expected, `row pack of ${where}`);
  const rows = pack.get(ROWS)?.values ?? new Float32Array(0);
  return { dense: sent, frozen: kept, pack: { layout, rows } };
}

function requireWeights(work: GradientWork, taskCount: number, where: string): void {
  const { taskWeights, coldTaskWeights, stepWeights, method } = work;
  const plan = methodPlanOf(method);
  const innerSteps = adapts(plan) ? plan.innerLoop.steps.count : 0;
  if (stepWeights !== undefined && stepWeights.length !== innerSteps)
    throw new QianmoError({
      kind: 'data',
      what: 'a job needs one weight per inner step',
      where: `stepWeights of ${where}`,
      expected: `${innerSteps} weights, one for each of method.innerSteps`,
      found: String(stepWeights.length),
      cure: 'coordinator and worker must run the same version; a method weighs each of its inner steps',
    });
  const coldWeightCount = coldTaskWeights?.length ?? (plan.cold === null ? taskCount : 0);
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
  onDevice: DeviceJob,
  work: GradientWork,
  inputs: { readonly leaves: readonly Leaf[]; readonly sent: SentPack | null },
): ComputedJob {
  const isDivided = adapts(methodPlanOf(work.method));
  return {
    output: encodeSums(
      gradientOf(computations, onDevice, work, inputs),
      onDevice.spec.tableRowWidth,
    ),
    queryRowCount: onDevice.tasks.reduce(
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
  const { logits, measures } = predictionsOfJob(computations, job, work, microBatchRowsMax);
  const cellCount = work.adaptations.length;
  const tensorOf = ({ values, rowCount }: RowLogits): CodedTensor => {
    return { shape: [cellCount, rowCount], values };
  };
  const tensors = new Map([['logits', tensorOf(logits)]]);
  if (measures !== null) {
    const { supportLogits, distances } = measures;
    const taskCount = job.tasks.length;
    const shape = [cellCount, taskCount, distances.length / (cellCount * taskCount)];
    tensors.set('support.logits', tensorOf(supportLogits));
    tensors.set('distances', { shape, values: distances });
  }
  return { output: encodeTensors(tensors), queryRowCount: logits.rowCount };
}
