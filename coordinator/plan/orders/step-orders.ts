/** The orders of a planned outer step: its jobs, or parts of them, with their inputs. */

import { at } from '../../../shared/base/arrays.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf, methodWorkAt } from '../../../shared/methods/methods.js';
import { learnsAll } from '../../../shared/models/learned-parameters.js';
import { PROTOCOL_VERSION, type GradientWork } from '../../../shared/queue/protocol.js';
import type { TaskOrder } from '../../dispatch/dispatcher.js';
import { twinsOf, wholeJobs, type JobPart } from './job-parts.js';
import type { PreparedRun } from '../prepared-run.js';
import type { FrozenInput } from '../row-pack-gather.js';
import type { StepPlan } from '../step-plan.js';

/** The row pack of a job, to be read before the tables change. */
export type PackOf = (jobIndex: number) => Uint8Array;

interface OrderContext {
  readonly run: PreparedRun;
  readonly packOf: PackOf;
  readonly frozen: FrozenInput | null;
  /** The kind of machine that must compute the jobs, once the run has one. */
  readonly fingerprint: string | null;
  /** By place among the orders; the whole jobs of the plan when absent. */
  readonly parts?: readonly JobPart[];
}

/**
 * The parts of the plan's jobs, with the encoded dense variables. The index of an order's job is its place; parts of one
 * job share its row pack.
 */
export function ordersOf(plan: StepPlan, dense: Uint8Array, context: OrderContext): TaskOrder[] {
  const { packOf, frozen, parts = wholeJobs(plan) } = context;
  const shared = { dense, frozen: frozen?.bytes ?? null };
  const packs = plan.jobs.map(({ jobIndex }) => onceRead(() => packOf(jobIndex)));
  const template = jobTemplateOf(plan, context);
  const twins = twinsOf(plan, parts);
  return parts.map((part, place): TaskOrder => {
    const planned = at(plan.jobs, part.jobIndex);
    const job: TaskOrder['job'] = {
      ...template,
      jobIndex: place,
      taskIndices: [...planned.taskIndices],
      ...planned.neighbours,
      work: workOf(plan, part, context),
    };
    const inputs = { ...shared, rowCount: part.rowCount, hasTwin: twins.has(part) };
    if (frozen?.holdsTables === true) return { job, ...inputs, rowPack: null };
    return new PackedOrder(job, inputs, at(packs, part.jobIndex));
  });
}

/** The fields that all jobs of the step have alike. */
function jobTemplateOf(
  { outerStep }: StepPlan,
  { run: { config, store, storeAddress }, fingerprint }: OrderContext,
): Omit<TaskOrder['job'], 'jobIndex' | 'taskIndices' | 'neighbours' | 'work'> {
  return {
    protocolVersion: PROTOCOL_VERSION,
    ...{ runId: config.run, outerStep },
    store: { address: storeAddress, digest: store.digest, storage: config.storage },
    model: config.model,
    microBatchRowsMax: config.training.microBatchRowsMax,
    device: config.compute.device,
    portable: config.compute.portable,
    ...(fingerprint === null ? {} : { fingerprint }),
    timeoutMs: config.queue.jobTimeoutMs,
    blobLifetimeMs: config.queue.blobLifetimeMs,
  };
}

function workOf(
  { outerStep, jobs }: StepPlan,
  { jobIndex, microBatches }: JobPart,
  { run: { config, spec } }: OrderContext,
): GradientWork {
  const { taskWeights, coldTaskWeights, sizes, drawnRows } = at(jobs, jobIndex);
  const { learned } = spec;
  const encoding = config.training.encodings?.gradients ?? 'float32';
  return {
    kind: 'gradient',
    ...methodWorkAt(config.method, outerStep),
    taskWeights: [...taskWeights],
    ...(coldTaskWeights === null ? {} : { coldTaskWeights: [...coldTaskWeights] }),
    ...(learnsAll(spec)
      ? {}
      : { learned: { variables: [...learned.variables], tables: [...learned.tables] } }),
    sizeBuckets: [...sizes.bucketByTask],
    ...(drawnRows === null ? {} : { drawnRows: drawnRows.map((places) => [...places]) }),
    ...queryLossBeforeAt(config, outerStep),
    ...dropoutOf(config),
    ...(microBatches === null ? {} : { microBatches }),
    ...(encoding === 'float32' ? {} : { encoding: { kind: encoding, seed: config.seed } }),
  };
}

function onceRead(encode: () => Uint8Array): () => Uint8Array {
  let encoded: Uint8Array | null = null;
  return () => (encoded ??= encode());
}

/**
 * An order that encodes its row pack when it is first read, so that the first jobs of an outer step
 * leave before the last ones are encoded. It must be read before the tables change.
 */
class PackedOrder implements TaskOrder {
  readonly job: TaskOrder['job'];
  readonly dense: Uint8Array;
  readonly frozen: Uint8Array | null;
  readonly rowCount: number;
  readonly hasTwin: boolean;
  readonly encoded: () => Uint8Array;

  constructor(
    job: TaskOrder['job'],
    inputs: Required<Pick<TaskOrder, 'dense' | 'frozen' | 'rowCount' | 'hasTwin'>>,
    encoded: () => Uint8Array,
  ) {
    this.job = job;
    this.dense = inputs.dense;
    this.frozen = inputs.frozen;
    this.rowCount = inputs.rowCount;
    this.hasTwin = inputs.hasTwin;
    this.encoded = encoded;
  }

  get rowPack(): Uint8Array {
    return this.encoded();
  }
}

/** Encodes the row packs that nobody has read yet. Must be called before the tables change. */
export function encodeRowPacks(orders: readonly TaskOrder[]): void {
  for (const order of orders) if (order instanceof PackedOrder) order.encoded();
}

function dropoutOf({ training, seed }: RunConfig): Pick<GradientWork, 'dropout'> {
  const { dropout: units = 0, inputDropout: inputs = 0, idDropout: ids } = training;
  if (units === 0 && inputs === 0 && ids === undefined) return {};
  return {
    dropout: {
      seed,
      ...(units === 0 ? {} : { units }),
      ...(inputs === 0 ? {} : { inputs }),
      ...(ids === undefined ? {} : { ids }),
    },
  };
}

/** Measured in the first outer step and in every n-th. Without adaptation, there is one query loss. */
function queryLossBeforeAt(
  { method, training }: RunConfig,
  outerStep: number,
): Pick<GradientWork, 'queryLossBefore'> {
  const every = training.queryLossBeforeEveryOuterSteps;
  const isMeasured = every > 0 && (outerStep === 0 || (outerStep + 1) % every === 0);
  return isMeasured && adapts(methodPlanOf(method)) ? { queryLossBefore: true } : {};
}
