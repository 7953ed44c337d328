/**
 * The run that a simulation trains: few tasks with few rows, and an executor whose gradients depend on
 * every byte of its input and cost next to nothing.
 */

import { configHash, decidingPart, RunConfigSchema } from '../../shared/config/run-config.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { learnedRowsOf, learnedVariables } from '../../shared/models/learned-parameters.js';
import { modelSpecOf } from '../../shared/models/model-spec.js';
import type { PreparedRun } from '../../coordinator/plan/prepared-run.js';
import { randomStream } from '../../shared/base/random.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import type { TaskEntry, TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { gradientCutOf } from '../../shared/methods/inner-loop/gradient-cut.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { summedLossesOf } from '../../shared/queue/blobs/gradient-losses.js';
import type { GradientWork, TaskJob } from '../../shared/queue/protocol.js';
import { encodePart, type JobGradient } from '../../worker/compute/job/gradient-part.js';
import { GradientSums } from '../../worker/compute/job/gradient-sums.js';
import { encodeGradient } from '../../shared/tensors/encode-gradient.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { floatsOf } from '../../shared/tensors/rounded-tensors.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import type { Variant } from './variants.js';
import type { CheckpointIdentity } from '../../coordinator/checkpoints/checkpoint-identity.js';

export const OUTER_STEPS = 8;
/** An order may extend the run to this length. */
export const EXTENDED_OUTER_STEPS = 10;
export const RUN_NAME = 'simulated-run';
export const JOB_ATTEMPTS_MAX = 4;
export const REFUSAL_WAIT_MS = 120_000;
export const BLOB_LIFETIME_MS = 600_000;
export const JOBS_PER_STEP = 4;
const TASKS_PER_JOB = 2;
/** Two jobs of three micro-batches each, which have two tasks. */
const PARTS = { tasksPerOuterStep: 12, tasksPerJob: 6, microBatchRowsMax: 8 };
export const TASKS_PER_MICRO_BATCH = 2;
const TASK_COUNT = 20;
const TABLE_ROW_COUNT = 12;
const FINGERPRINT = 'simulated-01234567';
const OTHER_FINGERPRINT = 'simulated-89abcdef';
const DRAIN_EVERY_OUTER_STEPS = 2;
/** Jobs take up to 2 s, and three workers have four of them. */
const CLOSING_RULES = {
  all: { kind: 'all' },
  quorum: { kind: 'quorum', share: 0.5, graceMs: 400 },
  deadline: { kind: 'deadline', afterMs: 3_000, shareMin: 0.5 },
} as const;

const FEATURES: EncodedFeature[] = [
  { name: 'place', kind: 'category', rowCount: TABLE_ROW_COUNT, encoding: { by: 'dictionary' } },
];

const plainConfig = {
  run: RUN_NAME,
  seed: 1,
  data: {
    ...{ logs: 'none.csv', store: 'none', task: 'task', label: { column: 'label' } },
    features: [{ name: 'place', kind: 'category' }],
  },
  model: { kind: 'logistic', hiddenWidths: [] },
  method: { kind: 'fomaml', innerSteps: 1, innerRate: 0.1 },
  training: {
    outerSteps: OUTER_STEPS,
    tasksPerOuterStep: JOBS_PER_STEP * TASKS_PER_JOB,
    tasksPerJob: TASKS_PER_JOB,
    checkpointEveryOuterSteps: DRAIN_EVERY_OUTER_STEPS,
    optimizer: { kind: 'adam', rate: 0.05 },
  },
  queue: {
    jobTimeoutMs: 10_000,
    jobAttemptsMax: JOB_ATTEMPTS_MAX,
    outerStepTimeoutMs: 600_000,
    refusalWaitMs: REFUSAL_WAIT_MS,
    blobLifetimeMs: BLOB_LIFETIME_MS,
  },
  output: 'none',
};

function simulatedStore(): TaskStore {
  const rows = Array.from({ length: TASK_COUNT }, (_, taskIndex) => taskRows(taskIndex));
  const tasks = rows.map(({ taskIndex, rowCount, supportRowCount }): TaskEntry => ({
    ...{ taskIndex, key: `task${taskIndex}`, split: 'train', supportRowCount },
    ...{ queryRowCount: rowCount - supportRowCount, firstSeenTime: 0 },
  }));
  return {
    manifest: {
      ...{ formatVersion: 1, sourceDigest: 'simulated', features: FEATURES, taskColumns: ['task'] },
      ...{ hasOracle: false, taskCount: TASK_COUNT, files: [], rejectedRowCount: 0 },
      taskCountBySplit: { train: TASK_COUNT, validation: 0, test: 0 },
      rowCount: rows.reduce((sum, { rowCount }) => sum + rowCount, 0),
    },
    digest: 'simulated',
    tasks,
    readTasks: (indices) => Promise.resolve(indices.flatMap((index) => rows[index] ?? [])),
    close: () => Promise.resolve(),
  };
}

function taskRows(taskIndex: number): TaskRows {
  const stream = randomStream(1, 'simulated task', taskIndex);
  const rowCount = 4;
  const numbers = (): Float64Array => new Float64Array(rowCount).fill(taskIndex);
  return {
    ...{ taskIndex, rowCount, supportRowCount: 2, bagIds: [], numbers: [], oracle: null },
    categoryIds: [Int32Array.from({ length: rowCount }, () => stream.below(TABLE_ROW_COUNT))],
    clicks: Float32Array.from({ length: rowCount }, () => stream.below(2)),
    impressions: new Float32Array(rowCount).fill(1),
    ...{ times: numbers(), logRows: numbers() },
  };
}

export const store = simulatedStore();

const plain = RunConfigSchema.parse(plainConfig);
const spec = modelSpecOf(plain.model, FEATURES, plain.method, plain.training.trainable);

export function simulatedRunOf(variant: Variant): PreparedRun {
  const staleness = { outerSteps: 1, drainEveryOuterSteps: DRAIN_EVERY_OUTER_STEPS };
  const config = RunConfigSchema.parse({
    ...plainConfig,
    training: {
      ...plainConfig.training,
      ...(variant.hasParts ? PARTS : {}),
      ...(variant.overlaps ? { staleness } : {}),
      closing: CLOSING_RULES[variant.closing],
      ...(variant.isRounded ? { encodings: { parameters: 'float16', gradients: 'int8' } } : {}),
    },
    compute: variant.demandsFingerprint ? { fingerprint: FINGERPRINT } : {},
    queue: {
      ...plainConfig.queue,
      ...(variant.hasCopies ? { backupAfterMultiple: 2 } : {}),
    },
  });
  return { config, store, storeAddress: 'memory://store', spec };
}

export function checkpointIdentityOf({ config }: PreparedRun): CheckpointIdentity {
  return {
    runName: config.run,
    configHash: configHash(config),
    deciding: decidingPart(config),
    storeDigest: store.digest,
    spec,
  };
}

/** Gradients that pull each parameter to a target of each task. */
export const simulatedExecutor: JobExecutor = {
  execute: computed,
  close: () => Promise.resolve(),
};

async function computed(input: JobInput): Promise<JobOutput> {
  const { job } = input;
  if (!('taskIndices' in job) || job.work.kind !== 'gradient' || input.rowPack === null)
    throw new Error('a simulation computes gradient jobs with a row pack');
  const tasks = await store.readTasks(job.taskIndices);
  const { sums, taskPlaces } = summed({ ...input, job }, job.work, tasks);
  const losses = pretendedLossesOf(job.taskIndices, taskPlaces);
  const { queryLossBefore, microBatches } = job.work;
  const ofTasks = {
    ...losses,
    queryLossesBefore: queryLossBefore === undefined ? null : losses.queryLossesBefore,
  };
  return {
    output:
      microBatches === undefined
        ? encodeGradient(sums.rounded(), job, job.work)
        : encodePart({ sums, losses: ofTasks, taskPlaces }, microBatches),
    ...summedLossesOf(job.work, ofTasks),
    queryRowCount: 2 * taskPlaces.length,
    ...{ computeMs: 0, backend: 'simulated', fingerprint: FINGERPRINT },
    microBatchRowsMax: job.microBatchRowsMax,
  };
}

/** The sums over the micro-batches that the work names, and the places of their tasks. */
function summed(
  { job, dense, rowPack }: JobInput<TaskJob>,
  work: GradientWork,
  tasks: readonly TaskRows[],
): Pick<JobGradient, 'sums' | 'taskPlaces'> {
  const variables = decoded(dense);
  const rows = decoded(rowPack ?? new Uint8Array()).get('rows')?.values;
  const { rowCount } = learnedRowsOf(spec, rowPackLayoutOf(tasks));
  const learned = learnedVariables(spec);
  const sums = new GradientSums([
    ...learned,
    { name: 'rows', shape: [rowCount, spec.tableRowWidth] },
  ]);
  const bounds = { rowsMax: job.microBatchRowsMax };
  const sizes = tasks.map(({ supportRowCount, rowCount: all }) => {
    return { supportRowCount, queryRowCount: all - supportRowCount };
  });
  const range = work.microBatches;
  const cut = gradientCutOf(methodPlanOf(work.method), sizes, bounds);
  const computedCut = cut.slice(range?.first, range?.end);
  for (const { taskPlaces } of computedCut) {
    const pulls = pullsOf(job.taskIndices, work.taskWeights, taskPlaces);
    for (const { name } of learned)
      sums.add(name, pulled(variables.get(name)?.values ?? [], pulls));
    sums.add('rows', pulled(rows ?? [], pulls));
  }
  return { sums, taskPlaces: computedCut.flatMap(({ taskPlaces }) => taskPlaces) };
}

function decoded(bytes: Uint8Array): NamedTensors {
  const tensors = floatsOf(decodeTensors(bytes, 'simulation'));
  if (tensors === null) throw new Error('the inputs of a job are floats');
  return tensors;
}

/** The same result as a machine of another kind gives it, with other bits. */
export function computedElsewhere(computed: JobOutput): JobOutput {
  const tensors = decodeTensors(computed.output, 'simulation');
  for (const { values } of tensors.values())
    values.forEach((value, index) => (values[index] = 1.5 * value + 1));
  return { ...computed, output: encodeTensors(tensors), fingerprint: OTHER_FINGERPRINT };
}

/** Losses of the tasks of a job whose sums show in which order they were added. They have 32 bits, as computed ones. */
function pretendedLossesOf(taskIndices: readonly number[], taskPlaces: readonly number[]) {
  const isComputed = new Set(taskPlaces);
  const drawn = (phase: number) =>
    Float64Array.from(taskIndices, (taskIndex, place) =>
      isComputed.has(place) ? Math.fround(Math.sin(taskIndex + phase)) : 0,
    );
  return { queryLosses: drawn(1), supportLosses: drawn(2), queryLossesBefore: drawn(3) };
}

/** Sums over some tasks of a job: of weights, and of weights times targets. */
function pullsOf(
  taskIndices: readonly number[],
  weights: readonly number[],
  places: readonly number[],
) {
  let [weight, target] = [0, 0];
  for (const place of places) {
    weight += weights[place] ?? 0;
    target += (weights[place] ?? 0) * Math.sin((taskIndices[place] ?? 0) + 1);
  }
  return { weight, target };
}

function pulled(
  values: ArrayLike<number>,
  { weight, target }: ReturnType<typeof pullsOf>,
): Float32Array {
  return Float32Array.from(values, (value) => weight * value - target);
}
