/**
 * Jobs over any tasks of a store, chunk by chunk and wave by wave: the common part of predictions and adaptations
 * of tasks, and adaptations. Chunks follow from the list of tasks and their rows alone, so jobs of both kinds over one list hold the
 * same tasks.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  adaptedLayoutOf,
  type AdaptedTask,
  areFinite,
  decodeAdaptedTasks,
} from '../../shared/bundle/adapted-tasks.js';
import {
  PROTOCOL_VERSION,
  type Adaptation,
  type AdaptWork,
  type JobWork,
} from '../../shared/queue/protocol.js';
import {
  dividedRowCounts,
  dividedTasks,
  type RowDivision,
} from '../../shared/tasks/task-copies.js';
import { encodeRowPack, rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskEntry, TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import type { DeliveredResult, Dispatcher, Rejection, JobOrder } from '../dispatch/dispatcher.js';
import { poisonTaskError, poisonTaskOf } from '../plan/poison-task.js';
import { encodeDense, encodeUnchanging, type FrozenInput } from '../plan/step-orders.js';
import { decodeTensors } from '../../shared/tensors/tensor-codec.js';
import { inOwnUnit, labelOfAll, roleBounds, type HeldOutRole } from '../scoring/held-out-rows.js';
import { lossSum } from '../scoring/metrics.js';

export interface TaskJobContext {
  readonly config: RunConfig;
  /** Unlike the training run's: its jobs must not be taken for ours. */
  readonly runId: string;
  readonly store: TaskStore;
  /** How `store` divides the rows of each task; absent when as on disk. */
  readonly division?: RowDivision;
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** Numbers the waves; a wave's number stands where a training job has its outer step. */
  readonly nextWave: () => number;
  readonly onTasksDone: (taskCount: number) => void;
  readonly onBackend: (backend: string) => void;
}

export interface AdaptableModel {
  readonly parameters: MetaParameters;
  /** How tasks adapt from them; `global` by plain gradient descent. */
  readonly method: MethodConfig;
}

/** Orders handed over together. */
const JOBS_PER_WAVE = 64;
/** The next wave is sent before the last results of a wave arrive. Bounds the row packs held in memory. */
const WAVES_OPEN_MAX = 2;
/** A job ends at every multiple of this in its list, so lists that are cut there hold whole jobs. */
export const TASKS_PER_JOB_MAX = 512;

interface TaskChunk {
  readonly jobIndex: number;
  readonly tasks: readonly TaskRows[];
  /** Place of the first of `tasks` in the list. */
  readonly firstTask: number;
}

/**
 * Cuts a list of tasks into jobs: consecutive tasks with at most `rowsMax` rows, or one larger task, and at most
 * TASKS_PER_JOB_MAX tasks.
 *
 * @param rowCounts of the tasks of the list
 * @returns the place after the last task of each job
 */
function jobEndsOf(rowCounts: readonly number[], rowsMax: number): number[] {
  const ends: number[] = [];
  let rowSum = 0;
  for (const [task, rowCount] of rowCounts.entries()) {
    const isFull = rowSum + rowCount > rowsMax || task % TASKS_PER_JOB_MAX === 0;
    if (isFull && task > (ends.at(-1) ?? 0)) {
      ends.push(task);
      rowSum = 0;
    }
    rowSum += rowCount;
  }
  if (rowCounts.length > 0) ends.push(rowCounts.length);
  return ends;
}

/** The tasks of a list in chunks, as many as are handed over together. */
async function* taskWaves(
  { config, store }: TaskJobContext,
  taskIndices: readonly number[],
): AsyncGenerator<readonly TaskChunk[]> {
  const rowCounts = taskIndices.map((taskIndex) => rowCountOf(at(store.tasks, taskIndex)));
  const ends = jobEndsOf(rowCounts, config.training.microBatchRowsMax);
  let first = 0;
  for (let job = 0; job < ends.length; job += JOBS_PER_WAVE) {
    const waveEnds = ends.slice(job, job + JOBS_PER_WAVE);
    const start = first;
    const tasks = await store.readTasks(taskIndices.slice(start, waveEnds.at(-1)));
    yield waveEnds.map((end, jobIndex) => {
      const firstTask = first;
      first = end;
      return { jobIndex, tasks: tasks.slice(firstTask - start, end - start), firstTask };
    });
  }
}

function rowCountOf({
  supportRowCount,
  queryRowCount,
}: Pick<TaskEntry, 'supportRowCount' | 'queryRowCount'>): number {
  return supportRowCount + queryRowCount;
}

/** A model whose parameters are encoded once for all of its jobs, which do not change them. */
type EncodedModel = AdaptableModel & {
  readonly frozen: FrozenInput;
  /** No variables: all of them are frozen. */
  readonly dense: Uint8Array;
};

/** @param model with the tasks of all jobs that it is encoded for. */
function withEncodedParameters(
  { config, store, spec }: TaskJobContext,
  model: AdaptableModel & { readonly taskIndices: readonly number[] },
): EncodedModel {
  const { parameters, method, taskIndices } = model;
  const rowsRead = taskIndices.reduce(
    (sum, taskIndex) => sum + rowCountOf(at(store.tasks, taskIndex)),
    0,
  );
  const bounds = { tablesByteCountMax: config.queue.frozenTablesByteCountMax, rowsRead };
  const frozen = encodeUnchanging(parameters, spec.tableRowWidth, bounds);
  return { parameters, method, frozen, dense: encodeDense(parameters, []) };
}

/** Chunks that are sent as jobs together, the work on each, and how its output is read. */
interface JobWave<Chunk extends TaskChunk, Value extends object> {
  readonly chunks: readonly Chunk[];
  /** @param division as the work of a job states it. */
  readonly workOf: (division: { readonly division?: RowDivision }) => JobWork;
  /** The value of an output, or why the output cannot be used. */
  readonly read: (output: Uint8Array, chunk: Chunk) => Value | Rejection;
}

/**
 * Sends waves of jobs and yields their values, one for each chunk, in order of waves and chunks. While results of
 * a wave are awaited, the next one is already sent.
 */
async function* waveValues<
  Chunk extends TaskChunk,
  Value extends object,
  Wave extends JobWave<Chunk, Value>,
>(
  context: TaskJobContext,
  model: EncodedModel,
  waves: AsyncIterable<Wave & JobWave<Chunk, Value>>,
): AsyncGenerator<{ readonly wave: Wave; readonly values: readonly Value[] }> {
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  const open: { readonly wave: Wave; readonly values: Promise<readonly Value[]> }[] = [];
  try {
    for await (const wave of waves) {
      const values = valuesOf({ ...context, signal }, model, wave);
      // It is rethrown where the wave is awaited.
      values.catch(() => undefined);
      open.push({ wave, values });
      if (open.length < WAVES_OPEN_MAX) continue;
      const first = at(open, 0);
      yield { wave: first.wave, values: await first.values };
      open.shift();
    }
    for (const { wave, values } of open) yield { wave, values: await values };
  } finally {
    over.abort();
    await Promise.allSettled(open.map(({ values }) => values));
  }
}

/** Sends each chunk of a wave as a job, and returns the values in the order of the chunks. */
async function valuesOf<Chunk extends TaskChunk, Value extends object>(
  context: TaskJobContext,
  model: EncodedModel,
  { chunks, workOf, read }: JobWave<Chunk, Value>,
): Promise<readonly Value[]> {
  if (chunks.length === 0) return [];
  const { dispatcher, signal, division, onBackend } = context;
  const outerStep = context.nextWave();
  const work = workOf(division === undefined ? {} : { division });
  const orders = chunks.map((chunk) => orderOf(context, model, chunk, { outerStep, work }));
  const chunkOf = new Map(chunks.map((chunk) => [chunk.jobIndex, chunk]));
  const readChunk = (delivered: DeliveredResult): { value: Value } | Rejection => {
    const chunk = chunkOf.get(delivered.result.jobIndex);
    if (chunk === undefined) return 'not_of_this_step';
    const value = read(delivered.output, chunk);
    return typeof value === 'string' ? value : { value };
  };
  const arrived = new Map<number, Value>();
  try {
    for await (const { result, value } of dispatcher.run(orders, readChunk, signal)) {
      onBackend(result.backend);
      arrived.set(result.jobIndex, value.value);
    }
  } catch (error) {
    throw await namingPoisonTask(error, orders, context);
  }
  return chunks.map(({ jobIndex }) => {
    const value = arrived.get(jobIndex);
    if (value === undefined) throw new Error(`job ${jobIndex} of a wave did not come back`);
    return value;
  });
}

/** An evaluation without one of its tasks would be another one, so it ends and names the task. */
async function namingPoisonTask(
  error: unknown,
  orders: readonly JobOrder[],
  context: TaskJobContext,
): Promise<unknown> {
  if (!(error instanceof QianmoError) || context.signal.aborted) return error;
  const found = await poisonTaskOf(error, orders, context);
  return found === null
    ? error
    : poisonTaskError(found, error, 'correct its rows, prepare again and train again');
}

function orderOf(
  context: TaskJobContext,
  { parameters, dense, frozen }: EncodedModel,
  { jobIndex, tasks }: TaskChunk,
  { outerStep, work }: { readonly outerStep: number; readonly work: JobWork },
): JobOrder {
  const { config, store } = context;
  const { fingerprint } = config.compute;
  return {
    job: {
      protocolVersion: PROTOCOL_VERSION,
      runId: context.runId,
      ...{ outerStep, jobIndex },
      store: {
        address: context.storeAddress,
        digest: store.digest,
        storage: config.storage,
      },
      model: config.model,
      taskIndices: tasks.map((task) => task.taskIndex),
      microBatchRowsMax: config.training.microBatchRowsMax,
      device: config.compute.device,
      portable: config.compute.portable,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      work,
      timeoutMs: config.queue.jobTimeoutMs,
      blobLifetimeMs: config.queue.blobLifetimeMs,
    },
    dense,
    rowPack: frozen.holdsTables
      ? null
      : encodeRowPack(parameters.tables, rowPackLayoutOf(tasks), context.spec.tableRowWidth),
    frozen: frozen.bytes,
  };
}

/** The decoded output of a job, or the rejection of bytes that are malformed. */
function decodedOr<Value>(decode: () => Value): Value | 'layout_mismatch' {
  try {
    return decode();
  } catch (error) {
    if (error instanceof QianmoError) return 'layout_mismatch';
    throw error;
  }
}

/**
 * A task store as an evaluation divides it: the same tasks with other support and query rows.
 *
 * @param taskIndices the tasks that will be read. The entries of other tasks keep the counts of the store.
 */
export function dividedStore(
  undivided: TaskStore,
  taskIndices: readonly number[],
  division: RowDivision,
): Required<Pick<TaskJobContext, 'store' | 'division'>> {
  const tasks = [...undivided.tasks];
  for (const taskIndex of taskIndices) {
    const entry = at(tasks, taskIndex);
    tasks[taskIndex] = { ...entry, ...dividedRowCounts(entry, division) };
  }
  const { manifest, digest } = undivided;
  const store: TaskStore = {
    ...{ manifest, digest, tasks },
    readTasks: (indices) => dividedTasks(undivided, indices, division),
    close: () => Promise.resolve(),
  };
  return { store, division };
}

interface AdaptRequest extends AdaptableModel {
  readonly taskIndices: readonly number[];
  readonly adaptation: Adaptation;
  /** The rows that tasks adapt on: their support rows, or all of them. */
  readonly rows: AdaptWork['rows'];
}

/** Adapted tasks that follow one another in the request. */
type AdaptedWave = readonly AdaptedTask[];

/** Yields every task of the request once, in its order, whatever the order of arrival. */
export async function* adaptTasks(
  context: TaskJobContext,
  request: AdaptRequest,
): AsyncGenerator<AdaptedWave> {
  const { method, adaptation, rows } = request;
  const layout = adaptedLayoutOf(context.spec);
  const model = withEncodedParameters(context, request);
  const read = (output: Uint8Array, taskIndices: readonly number[]): AdaptedWave | Rejection => {
    const adapted = decodedOr(() =>
      decodeAdaptedTasks(output, layout, taskIndices, 'output of an adapt job'),
    );
    if (adapted === 'layout_mismatch') return adapted;
    return areFinite(adapted) ? adapted : 'not_finite';
  };
  const waves = async function* (): AsyncGenerator<JobWave<TaskChunk, AdaptedWave>> {
    for await (const chunks of taskWaves(context, request.taskIndices))
      yield {
        chunks,
        workOf: (division) => ({ kind: 'adapt', method, adaptation, rows, ...division }),
        read: (output, { tasks }) =>
          read(
            output,
            tasks.map(({ taskIndex }) => taskIndex),
          ),
      };
  };
  for await (const { values } of waveValues(context, model, waves())) {
    const tasks = values.flat();
    yield tasks;
    context.onTasksDone(tasks.length);
  }
}

/** Tasks that follow one another, with all rows as what a block is fitted on. */
interface TaskFeatures {
  readonly tasks: readonly TaskRows[];
  /** `[rowCount, count]`: the derivatives of each logit in the personal parameters. */
  readonly slopes: Float32Array;
  /** `[rowCount]`: under the personal parameters that the task of a row starts from. */
  readonly logits: Float32Array;
}

/**
 * Yields the tasks in their order, whatever the order of arrival.
 *
 * @param request with the number of personal parameters.
 */
export async function* rowFeatures(
  context: TaskJobContext,
  request: AdaptableModel & { readonly taskIndices: readonly number[]; readonly count: number },
): AsyncGenerator<TaskFeatures> {
  const { method, count } = request;
  const read = (output: Uint8Array, { tasks }: TaskChunk): TaskFeatures | Rejection => {
    const tensors = decodedOr(() => decodeTensors(output, 'output of a features job'));
    if (tensors === 'layout_mismatch') return tensors;
    const rowCount = tasks.reduce((sum, task) => sum + task.rowCount, 0);
    const [slopes, logits] = ['slopes', 'logits'].map((name) => tensors.get(name)?.values);
    if (!(slopes instanceof Float32Array) || !(logits instanceof Float32Array))
      return 'layout_mismatch';
    if (slopes.length !== rowCount * count || logits.length !== rowCount) return 'layout_mismatch';
    const areFinite = slopes.every(Number.isFinite) && logits.every(Number.isFinite);
    return areFinite ? { tasks, slopes, logits } : 'not_finite';
  };
  const waves = async function* (): AsyncGenerator<JobWave<TaskChunk, TaskFeatures>> {
    for await (const chunks of taskWaves(context, request.taskIndices))
      yield { chunks, workOf: (division) => ({ kind: 'features', method, ...division }), read };
  };
  const model = withEncodedParameters(context, request);
  for await (const { values } of waveValues(context, model, waves())) {
    yield* values;
    context.onTasksDone(values.reduce((sum, { tasks }) => sum + tasks.length, 0));
  }
}

interface PredictionRequest extends AdaptableModel {
  readonly taskIndices: readonly number[];
  readonly adaptations: readonly Adaptation[];
  readonly role: HeldOutRole;
  /** Adaptations whose logits are kept; of the others only the losses are. */
  readonly keep: readonly number[];
}

interface Predictions {
  /** By adaptation: the sum of losses of each task, `[taskCount]`; infinite where it diverged. */
  readonly lossSums: readonly Float64Array[];
  /** By kept adaptation, in the order of `keep`: `[rowCount]`, tasks in order. */
  readonly logits: readonly Float32Array[];
}

/** The protocol's bound on the adaptations of one job. */
const ADAPTATIONS_PER_JOB = 256;

/** Cells of the request's grid that one job predicts. */
interface Cells {
  readonly first: number;
  readonly adaptations: readonly Adaptation[];
}

/** A chunk with the number of its rows of the predicted role. */
type PredictedChunk = TaskChunk & { readonly rowCount: number };

export async function predictLogits(
  context: TaskJobContext,
  request: PredictionRequest,
): Promise<Predictions> {
  const { taskIndices, adaptations, role, keep } = request;
  const starts = rowStartsOf(context.store, taskIndices, role);
  const predictions = {
    lossSums: adaptations.map(() => new Float64Array(taskIndices.length)),
    logits: keep.map(() => new Float32Array(at(starts, taskIndices.length))),
  };
  const model = withEncodedParameters(context, request);
  const { store } = context;
  const waves = predictWaves(context, request);
  for await (const { wave, values } of waveValues(context, model, waves)) {
    const { chunks, cells, taskCountDone } = wave;
    for (const [index, value] of values.entries())
      place(value, { chunk: at(chunks, index), cells, starts, request, predictions, store });
    if (taskCountDone > 0) context.onTasksDone(taskCountDone);
  }
  return predictions;
}

interface PredictWave extends JobWave<PredictedChunk, Float32Array> {
  readonly cells: Cells;
  /** The tasks whose last cells are in this wave. */
  readonly taskCountDone: number;
}

async function* predictWaves(
  context: TaskJobContext,
  request: PredictionRequest,
): AsyncGenerator<PredictWave> {
  const { taskIndices, adaptations, role, method } = request;
  for await (const wave of taskWaves(context, taskIndices)) {
    const chunks = wave
      .map((chunk) => ({ ...chunk, rowCount: roleRowCount(chunk, role) }))
      // Jobs without rows have nothing to answer, and would share one output blob.
      .filter(({ rowCount }) => rowCount > 0);
    const taskCount = wave.reduce((count, { tasks }) => count + tasks.length, 0);
    for (let first = 0; first < adaptations.length; first += ADAPTATIONS_PER_JOB) {
      const end = first + ADAPTATIONS_PER_JOB;
      const cells = { first, adaptations: adaptations.slice(first, end) };
      yield {
        ...{ chunks, cells, taskCountDone: end >= adaptations.length ? taskCount : 0 },
        workOf: (division) => ({
          ...{ kind: 'predict', method, rows: role, ...division },
          adaptations: [...cells.adaptations],
        }),
        read: (output, chunk) => readKept(output, cells, chunk, request),
      };
    }
  }
}

function rowStartsOf(
  store: TaskStore,
  taskIndices: readonly number[],
  role: HeldOutRole,
): Int32Array {
  const starts = new Int32Array(taskIndices.length + 1);
  for (const [task, taskIndex] of taskIndices.entries()) {
    const { queryRowCount, supportRowCount } = at(store.tasks, taskIndex);
    starts[task + 1] = at(starts, task) + (role === 'query' ? queryRowCount : supportRowCount);
  }
  return starts;
}

function roleRowCount({ tasks }: TaskChunk, role: HeldOutRole): number {
  return tasks.reduce((sum, task) => {
    const [first, end] = roleBounds(task, role);
    return sum + end - first;
  }, 0);
}

/** The logits of a job, `[cellCount, rowCount]`, whose kept cells are finite, or why they cannot be used. */
function readKept(
  output: Uint8Array,
  cells: Cells,
  { rowCount }: PredictedChunk,
  { keep }: PredictionRequest,
): Float32Array | Rejection {
  const tensors = decodedOr(() => decodeTensors(output, 'output of a predict job'));
  if (tensors === 'layout_mismatch') return tensors;
  const cellCount = cells.adaptations.length;
  const { values: logits, shape = [] } = tensors.get('logits') ?? {};
  const isWhole = tensors.size === 1 && shape.join() === [cellCount, rowCount].join();
  if (!(logits instanceof Float32Array) || !isWhole) return 'layout_mismatch';
  // An adaptation that is only tried may diverge: it loses, and the others are still compared.
  const areKeptFinite = [...cells.adaptations.keys()].every(
    (index) =>
      !keep.includes(cells.first + index) ||
      logits.subarray(index * rowCount, (index + 1) * rowCount).every(Number.isFinite),
  );
  return areKeptFinite ? logits : 'not_finite';
}

/** Predicted values are standardised; puts them in the unit of their label. `[cellCount, rowCount]` */
function outputsInOwnUnit(
  logits: Float32Array,
  chunk: TaskChunk,
  store: TaskStore,
  role: HeldOutRole,
): Float32Array {
  const { tasks } = chunk;
  if (tasks.every(({ loss }) => loss !== 'squared')) return logits;
  const rowCount = roleRowCount(chunk, role);
  const outputs = Float32Array.from(logits);
  let firstRow = 0;
  for (const task of tasks) {
    const [first, end] = roleBounds(task, role);
    const label = labelOfAll(store, [task.taskIndex]);
    if (label.loss === 'squared')
      for (let start = firstRow; start < outputs.length; start += rowCount)
        for (let row = start; row < start + end - first; row += 1)
          outputs[row] = label.mean + label.deviation * at(outputs, row);
    firstRow += end - first;
  }
  return outputs;
}

/** Where the results of a job go. */
interface Placing {
  readonly chunk: PredictedChunk;
  readonly cells: Cells;
  /** First row of each task of the request. */
  readonly starts: Int32Array;
  readonly store: TaskStore;
  readonly request: PredictionRequest;
  readonly predictions: Predictions;
}

function place(
  outputs: Float32Array,
  { chunk, cells, starts, store, request, predictions }: Placing,
): void {
  const logits = outputsInOwnUnit(outputs, chunk, store, request.role);
  for (const index of cells.adaptations.keys()) {
    const adaptation = cells.first + index;
    const ofCell = logits.subarray(index * chunk.rowCount, (index + 1) * chunk.rowCount);
    const kept = predictions.logits[request.keep.indexOf(adaptation)];
    kept?.set(ofCell, at(starts, chunk.firstTask));
    at(predictions.lossSums, adaptation).set(
      lossSumsOf(ofCell, chunk, store, request.role),
      chunk.firstTask,
    );
  }
}

/** The loss of each task of a chunk, infinite where it diverged. @param outputs of the rows of the role */
function lossSumsOf(
  outputs: Float32Array,
  { tasks }: TaskChunk,
  store: TaskStore,
  role: HeldOutRole,
): Float64Array {
  let row = 0;
  return Float64Array.from(tasks, (task) => {
    const [first, end] = roleBounds(task, role);
    const label = labelOfAll(store, [task.taskIndex]);
    const loss = lossSum(outputs.subarray(row, row + end - first), {
      label,
      clicks: inOwnUnit(task, label).clicks.subarray(first, end),
      impressions: task.impressions.subarray(first, end),
    });
    row += end - first;
    return Number.isFinite(loss) ? loss : Infinity;
  });
}
