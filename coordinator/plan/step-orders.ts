/** The orders of a planned outer step: its deliveries with their inputs. */

import { at } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { learnsAll, frozenVariables, type ModelSpec } from '../../shared/models/model-spec.js';
import { type GradientWork, PROTOCOL_VERSION } from '../../shared/queue/protocol.js';
import type { LeafRange } from '../../shared/sums/sum-tree.js';
import type { Delivery } from './deliveries.js';
import type { JobOrder } from '../dispatch/dispatcher.js';
import type { PreparedRun } from './prepared-run.js';
import type { StepPlan } from './step-plan.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { DenseTensor, NamedTensors } from '../../shared/tensors/named-tensors.js';
import { encodeTensors } from '../../shared/tensors/tensor-codec.js';

interface OrderContext {
  readonly run: PreparedRun;
  /** Encodes the row pack of a delivery, by its place. To be called before the tables change. */
  readonly packOf: (delivery: number) => Uint8Array;
  readonly frozen: FrozenInput | null;
  /** The kind of machine that must compute the jobs, once the run has one. */
  readonly fingerprint: string | null;
}

/** @returns an order for each delivery, with the encoded dense variables. Its job index is its place. */
export function ordersOf(
  plan: StepPlan,
  deliveries: readonly Delivery[],
  dense: Uint8Array,
  context: OrderContext,
): JobOrder[] {
  const { packOf, frozen } = context;
  const shared = { dense, frozen: frozen?.bytes ?? null };
  const template = jobTemplateOf(plan, context);
  return deliveries.map((delivery, place): JobOrder => {
    const common = {
      ...{ ...template, jobIndex: place },
      ...(delivery.keepsSums === true ? { keepsSums: true as const } : {}),
    };
    if (delivery.parts !== undefined)
      return {
        job: {
          ...{ ...common, taskIndices: [] },
          work: { kind: 'join', stepLeafCount: plan.leaves.length, nodes: [] },
        },
        ...{ dense, rowPack: null, frozen: null },
        parts: delivery.parts,
      };
    const [start, end] = tasksOf(plan, delivery);
    const job: JobOrder['job'] = {
      ...common,
      taskIndices: plan.tasks.taskIndices.slice(start, end),
      work: workOf(plan, delivery, context),
    };
    if (frozen?.holdsTables === true) return { job, ...shared, rowPack: null };
    return new PackedOrder(job, shared, () => packOf(place));
  });
}

/** The tasks of some leaves, among those of the step. */
export function tasksOf(
  { leaves }: Pick<StepPlan, 'leaves'>,
  { first, end }: LeafRange,
): readonly [start: number, end: number] {
  return [at(leaves, first).taskStart, at(leaves, end - 1).taskEnd];
}

function jobTemplateOf(
  { outerStep }: StepPlan,
  { run: { config, store, storeAddress }, fingerprint }: OrderContext,
): Omit<JobOrder['job'], 'jobIndex' | 'taskIndices' | 'work'> {
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
  plan: StepPlan,
  delivery: LeafRange,
  { run: { config, spec } }: OrderContext,
): GradientWork {
  const { leaves } = plan;
  const { taskWeights, coldTaskWeights, drawnRows, drawnSupportCounts } = plan.tasks;
  const { learned } = spec;
  const [start, end] = tasksOf(plan, delivery);
  return {
    kind: 'gradient',
    method: config.method,
    taskWeights: taskWeights.slice(start, end),
    ...(coldTaskWeights === null ? {} : { coldTaskWeights: coldTaskWeights.slice(start, end) }),
    ...(learnsAll(spec)
      ? {}
      : { learned: { variables: [...learned.variables], tables: [...learned.tables] } }),
    ...(drawnRows === null
      ? {}
      : { drawnRows: drawnRows.slice(start, end).map((places) => [...places]) }),
    ...(drawnSupportCounts === null
      ? {}
      : { drawnSupportCounts: drawnSupportCounts.slice(start, end) }),
    ...(plan.asksQueryLossBefore ? { queryLossBefore: true } : {}),
    ...dropoutOf(config),
    leaves: {
      first: delivery.first,
      stepLeafCount: leaves.length,
      shapes: leaves.slice(delivery.first, delivery.end).map(({ microBatch }) => {
        const { taskPlaces, taskCount, supportExtent, queryExtent, flatExtent } = microBatch;
        return [taskPlaces.length, taskCount, supportExtent, queryExtent, flatExtent];
      }),
    },
  };
}

/**
 * An order that encodes its row pack when it is read, and keeps it until its result counts. The memory of a step is
 * then that of the jobs under way.
 */
class PackedOrder implements JobOrder {
  readonly job: JobOrder['job'];
  readonly dense: Uint8Array;
  readonly frozen: Uint8Array | null;
  readonly #encode: () => Uint8Array;
  #encoded: Uint8Array | null = null;
  #isKept = false;

  constructor(
    job: JobOrder['job'],
    { dense, frozen }: Pick<JobOrder, 'dense' | 'frozen'>,
    encode: () => Uint8Array,
  ) {
    this.job = job;
    this.dense = dense;
    this.frozen = frozen;
    this.#encode = encode;
  }

  get rowPack(): Uint8Array {
    return (this.#encoded ??= this.#encode());
  }

  /** Encodes the row pack now and keeps it for good. */
  keep(): void {
    this.#encoded ??= this.#encode();
    this.#isKept = true;
  }

  settled(): void {
    if (!this.#isKept) this.#encoded = null;
  }
}

/** Must be called before the tables change. All jobs of the step may have to be sent again with the same inputs. */
export function keepRowPacks(orders: readonly JobOrder[]): void {
  for (const order of orders) if (order instanceof PackedOrder) order.keep();
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

/** All dense variables, or the named ones; one encoding serves every job of an outer step. */
export function encodeDense(
  { dense }: Pick<MetaParameters, 'dense'>,
  names?: readonly string[],
): Uint8Array {
  return encodeTensors(
    names === undefined ? dense : new Map(names.map((name) => [name, tensorOf(dense, name)])),
  );
}

/** The inputs that all jobs of a run or of an evaluation share. Workers keep them. */
export interface FrozenInput {
  readonly bytes: Uint8Array;
  /** If so, jobs need no row packs. */
  readonly holdsTables: boolean;
}

/**
 * Encodes the inputs that no outer step of a run changes. Null if nothing is frozen. Tables are held whole if none of them
 * learns and together they have at most `tablesByteCountMax` bytes.
 */
export function encodeFrozen(
  meta: MetaParameters,
  spec: ModelSpec,
  tablesByteCountMax: number,
): FrozenInput | null {
  const names = frozenVariables(spec).map(({ name }) => name);
  const isFrozen = meta.tables.size > 0 && spec.learned.tables.length === 0;
  const holdsTables =
    isFrozen && byteCountOf(meta.tables, spec.tableRowWidth) <= tablesByteCountMax;
  if (names.length === 0 && !holdsTables) return null;
  return frozenInputOf(meta, names, holdsTables ? spec.tableRowWidth : null);
}

/**
 * All dense variables, for jobs between which nothing changes. Tables are held whole if they have at most
 * `tablesByteCountMax` bytes and at most as many rows as the jobs together read. Otherwise jobs have
 * row packs, which are smaller together.
 */
export function encodeUnchanging(
  meta: MetaParameters,
  tableRowWidth: number,
  { tablesByteCountMax, rowsRead }: { tablesByteCountMax: number; rowsRead: number },
): FrozenInput {
  const rowCount = rowCountOf(meta.tables);
  const holdsTables =
    rowCount > 0 &&
    rowCount <= rowsRead &&
    byteCountOf(meta.tables, tableRowWidth) <= tablesByteCountMax;
  return frozenInputOf(meta, [...meta.dense.keys()], holdsTables ? tableRowWidth : null);
}

function rowCountOf(tables: MetaParameters['tables']): number {
  return [...tables.values()].reduce((sum, table) => sum + table.rowCount, 0);
}

function byteCountOf(tables: MetaParameters['tables'], tableRowWidth: number): number {
  return rowCountOf(tables) * tableRowWidth * Float32Array.BYTES_PER_ELEMENT;
}

/** @param tableRowWidth null if the tables are not held. */
function frozenInputOf(
  { dense, tables }: MetaParameters,
  names: readonly string[],
  tableRowWidth: number | null,
): FrozenInput {
  const tensors = new Map(names.map((name) => [name, tensorOf(dense, name)]));
  if (tableRowWidth !== null) {
    const rowCount = rowCountOf(tables);
    const values = new Float32Array(rowCount * tableRowWidth);
    let start = 0;
    for (const table of tables.values()) {
      values.set(table.values, start);
      start += table.values.length;
    }
    tensors.set('rows', { shape: [rowCount, tableRowWidth], values });
  }
  return { bytes: encodeTensors(tensors), holdsTables: tableRowWidth !== null };
}

function tensorOf(dense: NamedTensors, name: string): DenseTensor {
  const tensor = dense.get(name);
  if (tensor === undefined) throw new Error(`the meta-parameters have no ${name}`);
  return tensor;
}
