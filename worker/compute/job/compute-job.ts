/** Computes a job: from its bytes to the bytes of its output, synchronously and in one scope. */

import { assertNever, errorOf } from '../../../shared/base/errors.js';
import type { JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import type {
  AdaptWork,
  FeatureWork,
  GradientWork,
  Job,
  PredictWork,
} from '../../../shared/queue/protocol.js';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { type DenseTensor, elementCountOf } from '../../../shared/tensors/named-tensors.js';
import { encodeTensors, type CodedTensor } from '../../../shared/tensors/tensor-codec.js';
import { type Computations, adaptingOf } from './computations.js';
import { withoutTensorsLeft } from '../engine/load-engine.js';
import { gradientOf, jointLayoutOf, leavesOf, type Leaf } from './gradient-job.js';
import { deviceJobOf, jobInputsOf, type DeviceJob, type SentPack } from './device-job.js';
import { at } from '../../../shared/base/arrays.js';
import {
  personalVariables,
  VARIANCES,
} from '../../../shared/methods/inner-loop/personal-blocks.js';
import { restsOnSupport } from '../../../shared/methods/inner-loop/inner-loop.js';
import {
  adaptedLayoutOf,
  encodeAdaptedTasks,
  type AdaptedTask,
} from '../../../shared/bundle/adapted-tasks.js';
import {
  adaptCells,
  adaptingBatchOf,
  adaptingMicroBatches,
  type Adapting,
  type AdaptingBatch,
  type LogitsInput,
} from './adapt-tasks.js';
import { supportSumsOf } from '../../../shared/bundle/support-rows.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import { named } from '../meta-gradients/passes.js';
import type { MicroBatch } from '../../../shared/tasks/micro-batches.js';
import { roleSpanOf } from '../models/row-batch.js';

/** The rows of a job, as read from its store. */
interface JobTasks {
  readonly features: readonly EncodedFeature[];
  readonly tasks: readonly TaskRows[];
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
  { features, tasks }: JobTasks,
): ComputedJob {
  const { job } = input;
  const { engine } = computations;
  const where = `job ${job.jobIndex} of outer step ${job.outerStep} of run ${job.runId}`;
  const spec = specOf(job, features, where);
  if (job.work.kind === 'gradient') requireWeights(job.work, tasks.length, where);
  const { work } = job;
  const leaves = work.kind === 'gradient' ? leavesOf(tasks, work) : [];
  const inputs = jobInputsOf(computations.frozen, { input, spec, where }, () =>
    work.kind === 'gradient' ? jointLayoutOf(leaves) : rowPackLayoutOf(tasks),
  );
  return withoutTensorsLeft(engine, () => {
    // Leaves have row packs of their own.
    const uploaded = work.kind === 'gradient' ? { ...inputs, pack: null } : inputs;
    const onDevice = {
      ...deviceJobOf(computations, spec, tasks, uploaded),
      ...unitDropoutOf(job, spec),
    };
    switch (work.kind) {
      case 'gradient':
        return gradientJob(computations, onDevice, work, {
          ...{ leaves, sent: inputs.pack, hasIds: job.keepsSums === true },
        });
      case 'predict':
        return predictJob(computations, onDevice, work, job.microBatchRowsMax);
      case 'adapt':
        return {
          output: adaptedTasksOfJob(computations, onDevice, work, job.microBatchRowsMax),
          queryRowCount: 0,
        };
      case 'features':
        return featureJob(computations, onDevice, work, job.microBatchRowsMax);
      default:
        return assertNever(work);
    }
  });
}

/** The spec of the job's model and method. A gradient job may say that less of it learns. */
function specOf(
  { model, work }: Job,
  features: readonly EncodedFeature[],
  where: string,
): ModelSpec {
  const spec = modelSpecOf(model, features, work.method);
  if (work.kind !== 'gradient' || work.learned === undefined) return spec;
  const { learned } = work;
  const known = new Set([...spec.learned.variables, ...spec.learned.tables]);
  const unknown = [...learned.variables, ...learned.tables].filter((name) => !known.has(name));
  if (unknown.length === 0) return { ...spec, learned };
  throw errorOf('data', 'the job requests gradients of parameters that its method does not train', {
    where,
    found: unknown.join(', '),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

function unitDropoutOf(
  { work, outerStep }: Job,
  { kind }: ModelSpec,
): Pick<DeviceJob, 'unitDropout'> {
  if (work.kind !== 'gradient' || !MODELS.get(kind).hasHiddenLayers) return {};
  const { seed, units = 0, inputs = 0 } = work.dropout ?? {};
  if (seed === undefined || (units === 0 && inputs === 0)) return {};
  const keepsFeatures = methodPlanOf(work.method).innerLoop.reads.features === true;
  return { unitDropout: { units, inputs, keepsFeatures, seed, outerStep } };
}

function requireWeights(work: GradientWork, taskCount: number, where: string): void {
  const { taskWeights, coldTaskWeights, method } = work;
  const plan = methodPlanOf(method);
  const coldWeightCount = coldTaskWeights?.length ?? (plan.cold === null ? taskCount : 0);
  if (taskWeights.length === taskCount && coldWeightCount === taskCount) return;
  throw errorOf('data', 'a job needs one weight per task', {
    where,
    expected: `${taskCount} weights, and as many of a cold term`,
    found: `${taskWeights.length} and ${coldWeightCount}`,
  });
}

function gradientJob(
  computations: Computations,
  onDevice: DeviceJob,
  work: GradientWork,
  inputs: {
    readonly leaves: readonly Leaf[];
    readonly sent: SentPack | null;
    readonly hasIds: boolean;
  },
): ComputedJob {
  const isDivided = adapts(methodPlanOf(work.method));
  return {
    output: encodeSums(
      gradientOf(computations, onDevice, work, inputs),
      onDevice.spec.tableRowWidth,
      inputs.hasIds,
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
  const { values, rowCount } = predictionsOfJob(computations, job, work, microBatchRowsMax);
  const logits: CodedTensor = { shape: [work.adaptations.length, rowCount], values };
  return { output: encodeTensors(new Map([['logits', logits]])), queryRowCount: rowCount };
}

/** The output blob. */
function adaptedTasksOfJob(
  computations: Computations,
  job: DeviceJob,
  work: AdaptWork,
  microBatchRowsMax: number,
): Uint8Array {
  const plan = methodPlanOf(work.method);
  const loop = plan.innerLoop;
  const adapting = adaptingOf(computations, job, work);
  const isAdapting = restsOnSupport(loop, work.adaptation.innerSteps);
  // Query rows are not read, but decide the cut, so that it is that of a predict job.
  const rows = { isAdapting, hasQuery: true };
  const microBatches = adaptingMicroBatches(job, rows, microBatchRowsMax);
  const tasks = new Array<AdaptedTask>(job.tasks.length);
  forEachBatch(computations, adapting, microBatches, (batch) => {
    adaptCells(batch, [work.adaptation], (_, state) => {
      for (const [place, task] of adaptedTasksIn(batch, state)) tasks[place] = task;
    });
  });
  return encodeAdaptedTasks(adaptedLayoutOf(job.spec), tasks);
}

/** Uploads one micro-batch after the other. */
function forEachBatch(
  computations: Computations,
  adapting: Adapting,
  microBatches: readonly MicroBatch[],
  act: (batch: AdaptingBatch) => void,
): void {
  const count = microBatches.length;
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    adapting.job.engine.tf.tidy(() => act(adaptingBatchOf(adapting, microBatch)));
  }
}

/** The tasks of a micro-batch by their places in the job. */
function adaptedTasksIn(
  { job, microBatch }: AdaptingBatch,
  state: LoopState,
): Map<number, AdaptedTask> {
  const blocks = job.spec.ownVariables.map(({ name, shape }) => ({
    ...{ name, shape, values: named(state, name).dataSync<'float32'>() },
  }));
  return new Map(
    microBatch.taskPlaces.map((place, index): [number, AdaptedTask] => {
      const task = at(job.tasks, place);
      const isOfValues = task.loss === 'squared';
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
              // The prediction of a value is not moderated.
              {
                shape,
                values:
                  isOfValues && name === VARIANCES ? blockAt(values).fill(0) : blockAt(values),
              },
            ]),
          ),
          support: supportSumsOf(job.spec, task),
        },
      ];
    }),
  );
}

/** All rows of its tasks are support rows. */
function featureJob(
  computations: Computations,
  job: DeviceJob,
  work: FeatureWork,
  microBatchRowsMax: number,
): ComputedJob {
  const starts = startsOf(job.tasks.map(({ rowCount }) => rowCount));
  const rowCount = at(starts, job.tasks.length);
  const count = personalVariables(job.spec).reduce(
    (sum, { shape }) => sum + elementCountOf(shape),
    0,
  );
  const slopes = new Float32Array(rowCount * count);
  const logits = new Float32Array(rowCount);
  const read = { isAdapting: true, hasQuery: false };
  const microBatches = adaptingMicroBatches(job, read, microBatchRowsMax);
  const adapting = adaptingOf(computations, job, work);
  forEachBatch(computations, adapting, microBatches, (adaptingBatch) => {
    const { scoring, support, initial: state, microBatch } = adaptingBatch;
    if (support === null) return;
    const { input, batch, trunk } = support;
    const found = scoring.features.run({ dense: input.dense, batch, trunk, state });
    const [paddedSlopes, paddedLogits] = [
      found.slopes.dataSync<'float32'>(),
      found.logits.dataSync<'float32'>(),
    ];
    for (const [index, place] of microBatch.taskPlaces.entries()) {
      const [first, from] = [at(starts, place), index * microBatch.supportExtent];
      const end = from + at(starts, place + 1) - first;
      slopes.set(paddedSlopes.subarray(from * count, end * count), first * count);
      logits.set(paddedLogits.subarray(from, end), first);
    }
  });
  const tensors = new Map<string, CodedTensor>([
    ['slopes', { shape: [rowCount, count], values: slopes }],
    ['logits', { shape: [rowCount], values: logits }],
  ]);
  return { output: encodeTensors(tensors), queryRowCount: 0 };
}

/** Where the rows of each task begin, and where the last ones end. */
function startsOf(rowCounts: readonly number[]): Int32Array {
  const starts = new Int32Array(rowCounts.length + 1);
  for (const [place, rowCount] of rowCounts.entries())
    starts[place + 1] = at(starts, place) + rowCount;
  return starts;
}

type Role = PredictWork['rows'];

interface RowLogits {
  /** `[settingCount, rowCount]`: settings and tasks in order of the job, rows in order of the task. */
  readonly values: Float32Array;
  readonly rowCount: number;
}

function predictionsOfJob(
  computations: Computations,
  job: DeviceJob,
  work: PredictWork,
  microBatchRowsMax: number,
): RowLogits {
  const adapting = adaptingOf(computations, job, work);
  const isAdapting =
    work.rows === 'support' ||
    work.adaptations.some(({ innerSteps }) => restsOnSupport(adapting.loop, innerSteps));
  const read = { isAdapting, hasQuery: work.rows === 'query' };
  const microBatches = adaptingMicroBatches(job, read, microBatchRowsMax).filter(
    (microBatch) => (work.rows === 'query' ? microBatch.queryExtent : microBatch.supportExtent) > 0,
  );
  const rows = new JobRows(job, work, work.rows);
  forEachBatch(computations, adapting, microBatches, (batch) => {
    const scored = scoredInputOf(batch, work.rows);
    adaptCells(batch, work.adaptations, (cells, state) => {
      rows.place(batch.microBatch, cells, paddedLogits(batch, scored, state));
    });
  });
  return rows.logits;
}

type ScoredInput = Pick<LogitsInput, 'dense' | 'batch' | 'trunk'>;

/** Logits `[taskCount, extent]` under adapted blocks. */
function paddedLogits(
  { scoring }: AdaptingBatch,
  input: ScoredInput,
  state: LoopState,
): Float32Array {
  const logits = scoring.logits.run({ ...input, state });
  const padded = logits.dataSync<'float32'>();
  logits.dispose();
  return padded;
}

/** The rows that get logits; the support rows are those that tasks adapt on. */
function scoredInputOf({ input, scoring, support }: AdaptingBatch, role: Role): ScoredInput {
  const { batches, ...shared } = input;
  const { dense } = shared;
  if (role === 'support' && support !== null)
    return { dense, batch: support.batch, trunk: support.trunk };
  const batch = batches[role];
  if (batch === undefined) throw new Error(`no ${role} rows to predict`);
  return { dense, batch, trunk: scoring.trunk.run({ ...shared, batch }) };
}

/** Puts the logits of micro-batches in the order of the job. */
class JobRows {
  readonly logits: RowLogits;
  /** By task: where its first row lies among those of the job. */
  readonly #firstRows: Int32Array;

  constructor({ tasks }: DeviceJob, { adaptations }: PredictWork, role: Role) {
    this.#firstRows = startsOf(
      tasks.map((task) => {
        const { start, end } = roleSpanOf(task, role);
        return end - start;
      }),
    );
    const rowCount = at(this.#firstRows, tasks.length);
    this.logits = { values: new Float32Array(adaptations.length * rowCount), rowCount };
  }

  /** @param padded `[taskCount, extent]`, the same for all of the cells */
  place(
    { taskPlaces, taskCount }: MicroBatch,
    cells: readonly number[],
    padded: Float32Array,
  ): void {
    const { values, rowCount } = this.logits;
    const extent = padded.length / taskCount;
    for (const [index, place] of taskPlaces.entries()) {
      const first = at(this.#firstRows, place);
      const count = at(this.#firstRows, place + 1) - first;
      const ofTask = padded.subarray(index * extent, index * extent + count);
      for (const cell of cells) values.set(ofTask, cell * rowCount + first);
    }
  }
}
