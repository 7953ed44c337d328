/**
 * The run that a simulation trains: few tasks with few rows, and an executor whose gradients depend on
 * every byte of its input and cost next to nothing. A variant says how it differs from seed to seed, apart from its
 * faults; the draw of faults does not depend on it.
 */

import { signedJobQueue } from '../../shared/queue/signed-job-queue.js';
import { createSecretKey } from 'node:crypto';
import { randomStream } from '../../shared/base/random.js';
import { queueWithLargeBlobs } from '../../shared/queue/large-blobs.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { configHash, decidingPart, RunConfigSchema } from '../../shared/config/run-config.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { metaParametersDigest, type MetaParameters } from '../../shared/models/meta-parameters.js';
import { learnedVariables, modelSpecOf } from '../../shared/models/model-spec.js';
import type { PreparedRun } from '../../coordinator/plan/prepared-run.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import type { TaskEntry, TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import type { GradientWork, LargeBlobs } from '../../shared/queue/protocol.js';
import { encodeSums } from '../../shared/sums/delivered-sums.js';
import { joinNodes, learnedIdsOf, type GradientNode } from '../../shared/sums/gradient-node.js';
import { SumTree } from '../../shared/sums/sum-tree.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { decodeTensors, encodeTensors, floatsOf } from '../../shared/tensors/tensor-codec.js';
import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';
import type { CheckpointIdentity } from '../../coordinator/checkpoints/checkpoint-reader.js';

export interface Variant {
  /** Outer steps overlap, so that the run has another digest. */
  readonly overlaps: boolean;
  readonly isSigned: boolean;
  /** The config names the fingerprint; otherwise the first result decides. */
  readonly demandsFingerprint: boolean;
  /** The number of leaves, and of tasks, of an outer step. */
  readonly leavesPerStep: number;
  /** The first worker takes seconds for each job. */
  readonly hasStraggler: boolean;
  /** Most blobs are in an object store, which answers later than the queue's server. */
  readonly hasLargeBlobs: boolean;
  /** Workers add sums; otherwise the coordinator does. */
  readonly joinsSums: boolean;
  /** Training ends when validation losses stop falling. */
  readonly stopsEarly: boolean;
  /** Calls of the object store of the checkpoints are repeated while it is away. */
  readonly waitsForStore: boolean;
}

/** Of so many leaves, each takes a second and is a job of its own. */
const FEW_LEAVES = 8;
/** Far more jobs than a coordinator sends at once. */
const MANY_LEAVES = 64;
const MANY_LEAVES_ONE_IN = 12;
const STRAGGLER_ONE_IN = 6;
const LARGE_BLOBS_ONE_IN = 4;

const KEY = createSecretKey('the key of a simulated pool of workers', 'utf8');

export function variantOf(seed: number): Variant {
  const stream = randomStream(seed, 'simulated variant');
  const isDrawn = (): boolean => stream.below(2) === 1;
  const drawn = {
    overlaps: isDrawn(),
    isSigned: isDrawn(),
    demandsFingerprint: isDrawn(),
    waitsForStore: isDrawn(),
  };
  const isOneIn = (count: number): boolean => stream.below(count) === 0;
  const isLarge = isOneIn(MANY_LEAVES_ONE_IN);
  const [hasStraggler, hasLargeBlobs] = [isOneIn(STRAGGLER_ONE_IN), isOneIn(LARGE_BLOBS_ONE_IN)];
  const stopsEarly = isDrawn() && !drawn.overlaps;
  const joinsSums = isDrawn();
  return {
    ...{ ...drawn, leavesPerStep: isLarge ? MANY_LEAVES : FEW_LEAVES },
    ...{ hasStraggler, hasLargeBlobs, stopsEarly, joinsSums },
  };
}

/** The queue as the controllers of the variant use it. */
export function signedQueueOf({ isSigned }: Pick<Variant, 'isSigned'>, queue: JobQueue): JobQueue {
  return isSigned ? signedJobQueue(queue, KEY) : queue;
}

/** The queue as the processes of the variant use it. */
export function queueOf(variant: Variant, queue: JobQueue, largeBlobs: ObjectStore): JobQueue {
  return queueWithLargeBlobs(signedQueueOf(variant, queue), () => largeBlobs);
}

export function describedVariant(variant: Variant): string {
  const { overlaps, isSigned, demandsFingerprint, leavesPerStep } = variant;
  const parts = [
    ...(overlaps ? ['outer steps overlap'] : []),
    ...(isSigned ? ['records are signed'] : []),
    ...(demandsFingerprint ? ['the fingerprint is demanded'] : []),
    ...(leavesPerStep === FEW_LEAVES ? [] : [`an outer step has ${leavesPerStep} leaves`]),
    ...(variant.hasStraggler ? ['a worker is slow'] : []),
    ...(variant.hasLargeBlobs ? ['large blobs are elsewhere'] : []),
    ...(variant.joinsSums ? ['workers add sums'] : []),
    ...(variant.stopsEarly ? ['training may stop early'] : []),
    ...(variant.waitsForStore ? ['coordinators wait for the store'] : []),
  ];
  return parts.length === 0 ? 'plain' : parts.join(', ');
}

export const OUTER_STEPS = 8;
export const RUN_NAME = 'simulated-run';
export const JOB_ATTEMPTS_MAX = 4;
export const REFUSAL_WAIT_MS = 120_000;
export const BLOB_LIFETIME_MS = 600_000;
/** Of so many tasks, an outer step draws one. */
const TASKS_PER_DRAWN = 2.5;
export const QUERY_ROWS_PER_TASK = 2;
const TABLE_ROW_COUNT = 12;
const FINGERPRINT = 'simulated-01234567';
const OTHER_FINGERPRINT = 'simulated-89abcdef';
const DRAIN_EVERY_OUTER_STEPS = 2;
/** A few are with the queue's server. */
export const LARGE_BLOBS: LargeBlobs = {
  ...{ address: 'large-blobs', byteCountMin: 100 },
  storage: StorageConfigSchema.parse({}),
};

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

/** Returns a function that makes the value of a key when it is first asked for. */
export function madeOnce<Value>(): (key: string, make: () => Value) => Value {
  const made = new Map<string, Value>();
  return (key, make) => {
    const value = made.get(key) ?? make();
    made.set(key, value);
    return value;
  };
}

const stores = madeOnce<TaskStore>();

/** The tasks of runs with so many leaves in an outer step, one for each of its tasks. */
export function simulatedStoreOf({ leavesPerStep }: Pick<Variant, 'leavesPerStep'>): TaskStore {
  const taskCount = leavesPerStep * TASKS_PER_DRAWN;
  return stores(String(taskCount), () => simulatedStore(taskCount));
}

function simulatedStore(taskCount: number): TaskStore {
  const rows = Array.from({ length: taskCount }, (_, taskIndex) => taskRows(taskIndex));
  const tasks = rows.map(({ taskIndex, rowCount, supportRowCount }): TaskEntry => ({
    ...{ taskIndex, key: `task${taskIndex}`, split: 'train', supportRowCount },
    ...{ queryRowCount: rowCount - supportRowCount, firstSeenTime: 0 },
  }));
  return {
    manifest: {
      ...{ formatVersion: 1, sourceDigest: 'simulated', features: FEATURES, taskColumns: ['task'] },
      ...{ hasOracle: false, taskCount, files: [], rejectedRowCount: 0 },
      taskCountBySplit: { train: taskCount, validation: 0, test: 0 },
      rowCount: rows.reduce((sum, { rowCount }) => sum + rowCount, 0),
    },
    digest: `simulated ${taskCount}`,
    tasks,
    readTasks: (indices) => Promise.resolve(indices.flatMap((index) => rows[index] ?? [])),
    close: () => Promise.resolve(),
  };
}

function taskRows(taskIndex: number): TaskRows {
  const stream = randomStream(1, 'simulated task', taskIndex);
  const rowCount = 2 + QUERY_ROWS_PER_TASK;
  const numbers = (): Float64Array => new Float64Array(rowCount).fill(taskIndex);
  return {
    ...{ taskIndex, rowCount, supportRowCount: 2, bagIds: [], numbers: [], oracle: null },
    categoryIds: [Int32Array.from({ length: rowCount }, () => stream.below(TABLE_ROW_COUNT))],
    clicks: Float32Array.from({ length: rowCount }, () => stream.below(2)),
    impressions: new Float32Array(rowCount).fill(1),
    ...{ times: numbers(), logRows: numbers() },
  };
}

const plain = RunConfigSchema.parse(plainConfig);
const spec = modelSpecOf(plain.model, FEATURES, plain.method, plain.training.trainable);

const runs = madeOnce<PreparedRun>();

export function simulatedRunOf(variant: Variant): PreparedRun {
  return runs(JSON.stringify(variant), () => preparedRunOf(variant));
}

function preparedRunOf(variant: Variant): PreparedRun {
  const { leavesPerStep } = variant;
  const staleness = { outerSteps: 1, drainEveryOuterSteps: DRAIN_EVERY_OUTER_STEPS };
  const config = RunConfigSchema.parse({
    ...plainConfig,
    training: {
      ...plainConfig.training,
      ...{ tasksPerOuterStep: leavesPerStep, leavesPerOuterStepMin: leavesPerStep },
      ...(variant.stopsEarly ? { earlyStopping: { everyOuterSteps: 1, patience: 3 } } : {}),
      ...(variant.overlaps ? { staleness } : {}),
    },
    queue: {
      ...plainConfig.queue,
      ...(variant.joinsSums ? { joinedSumByteCountMin: 0 } : {}),
    },
    compute: variant.demandsFingerprint ? { fingerprint: FINGERPRINT } : {},
  });
  return { config, store: simulatedStoreOf(variant), storeAddress: 'memory://store', spec };
}

/** The validation loss of a run that may stop early. It shows every bit, and hardly falls. */
export function simulatedLossOf(parameters: MetaParameters): Promise<number> {
  return Promise.resolve(parseInt(metaParametersDigest(parameters).slice(32, 40), 16));
}

export function checkpointIdentityOf({ config, store }: PreparedRun): CheckpointIdentity {
  return {
    runName: config.run,
    configHash: configHash(config),
    deciding: decidingPart(config),
    storeDigest: store.digest,
    spec,
  };
}

/** Gradients that pull each parameter to a target of each task. */
export function simulatedExecutorOf(variant: Pick<Variant, 'leavesPerStep'>): JobExecutor {
  const store = simulatedStoreOf(variant);
  return { execute: (input) => computed(input, store), close: () => Promise.resolve() };
}

async function computed(input: JobInput, store: TaskStore): Promise<JobOutput> {
  const { job } = input;
  if (!('taskIndices' in job) || job.work.kind !== 'gradient' || input.rowPack === null)
    throw new Error('a simulation computes gradient jobs with a row pack');
  const tasks = await store.readTasks(job.taskIndices);
  const nodes = nodesOf({ ...input, job }, job.work, tasks);
  const losses = pretendedLossesOf(job.taskIndices);
  const queryBefore = job.work.queryLossBefore === undefined ? null : losses.queryBefore;
  return {
    output: encodeSums(
      { nodes, losses: { ...losses, queryBefore } },
      spec.tableRowWidth,
      job.keepsSums === true,
    ),
    queryRowCount: QUERY_ROWS_PER_TASK * tasks.length,
    ...{ computeMs: 0, backend: 'simulated', fingerprint: FINGERPRINT },
  };
}

function nodesOf(
  { job, dense, rowPack }: JobInput,
  work: GradientWork,
  tasks: readonly TaskRows[],
): GradientNode[] {
  const variables = decoded(dense);
  const rows = decoded(rowPack ?? new Uint8Array()).get('rows')?.values ?? new Float32Array();
  const [packIds = new Int32Array()] = rowPackLayoutOf(tasks).idsByTable;
  const width = spec.tableRowWidth;
  const { first, stepLeafCount, shapes } = work.leaves;
  const tree = new SumTree<GradientNode>(stepLeafCount, (left, right) =>
    joinNodes(left, right, width),
  );
  let start = 0;
  for (const [index, [taskCount]] of shapes.entries()) {
    const end = start + taskCount;
    const pulls = pullsOf(job.taskIndices.slice(start, end), work.taskWeights.slice(start, end));
    const layout = rowPackLayoutOf(tasks.slice(start, end));
    const idsByTable = learnedIdsOf(spec, layout);
    const ownRows = idsByTable
      .flatMap((ids) => [...ids])
      .flatMap((id) => {
        const place = packIds.indexOf(id) * width;
        return [...rows.subarray(place, place + width)];
      });
    const leaf = {
      dense: pulled(
        learnedVariables(spec).flatMap(({ name }) => [...valuesOf(variables, name)]),
        pulls,
      ),
      ...{ idsByTable, rows: pulled(ownRows, pulls) },
    };
    tree.add({ first: first + index, end: first + index + 1 }, leaf);
    start = end;
  }
  return tree.heldNodes().map(({ sum }) => sum);
}

function valuesOf(variables: NamedTensors, name: string): Float32Array {
  return variables.get(name)?.values ?? new Float32Array();
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

/** Losses of tasks whose sums show in which order they were added. */
function pretendedLossesOf(taskIndices: readonly number[]) {
  const drawn = (phase: number) =>
    Float32Array.from(taskIndices, (taskIndex) => Math.sin(taskIndex + phase));
  return { query: drawn(1), support: drawn(2), queryBefore: drawn(3) };
}

/** Sums over the tasks of a leaf: of weights, and of weights times targets. */
function pullsOf(taskIndices: readonly number[], weights: readonly number[]) {
  let [weight, target] = [0, 0];
  for (const [place, taskIndex] of taskIndices.entries()) {
    weight += weights[place] ?? 0;
    target += (weights[place] ?? 0) * Math.sin(taskIndex + 1);
  }
  return { weight, target };
}

function pulled(
  values: ArrayLike<number>,
  { weight, target }: ReturnType<typeof pullsOf>,
): Float32Array {
  return Float32Array.from(values, (value) => weight * value - target);
}
