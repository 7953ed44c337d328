/**
 * A job on the device: its input blobs, checked against model and tasks, and uploaded. Frozen inputs, which all jobs of a
 * run share, are kept as tensors by content.
 */

import { type JobInput } from '../../../shared/queue/job-executor.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import type { RowPackLayout } from '../../../shared/tasks/row-pack.js';
import {
  layoutDifferences,
  type DenseTensor,
  type TensorLayout,
} from '../../../shared/tensors/named-tensors.js';
import { localIdsByTable, type LocalIds, type UnitDropout } from '../models/row-batch.js';
import type { Engine } from '../engine/load-engine.js';
import { paddedPack, type DeviceTasks } from '../models/device-tasks.js';
import { errorOf } from '../../../shared/base/errors.js';
import { floatsOf, viewTensors } from '../../../shared/tensors/tensor-codec.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import { SHARED_KEPT_COUNT } from '../../process/compute-protocol.js';

export interface DeviceJob extends DeviceTasks {
  /** Absent where no hidden units are dropped. */
  readonly unitDropout?: UnitDropout;
}

/** The row pack of a job as it was sent. */
export interface SentPack {
  readonly layout: RowPackLayout;
  /** `[layout.rowCount, tableRowWidth]` */
  readonly rows: Float32Array;
}

/** The inputs of a job. Dense and frozen variables together are those of the spec. */
interface DeviceInputs {
  readonly dense: ReadonlyMap<string, DenseTensor>;
  readonly frozen: FrozenTensors;
  /** Null where the frozen input has the tables. */
  readonly pack: SentPack | null;
}

/** Memory for one padded row pack at a time. The first use of new memory takes longer than the copy into it. */
export class PackMemory {
  #floats = new Float32Array(0);

  /** The memory of an earlier call must not be read any more. */
  readonly of = (length: number): Float32Array => {
    if (this.#floats.length < length) this.#floats = new Float32Array(length);
    return this.#floats.subarray(0, length);
  };
}

/** @throws QianmoError of kind `data` when the tensors do not fit the model or the tasks. */
export function jobInputsOf(
  cache: FrozenTensorCache,
  of: { readonly input: JobInput; readonly spec: ModelSpec; readonly where: string },
  layoutOfPack: () => RowPackLayout,
): DeviceInputs {
  const { spec, where } = of;
  const { job, dense, rowPack, frozen } = of.input;
  const kept = cache.get(job.frozen?.sha256, frozen, `frozen of ${where}`);
  const sent = floatTensors(dense, `dense of ${where}`);
  const all: TensorLayout = new Map<string, { readonly shape: readonly number[] }>([
    ...kept.dense,
    ...[...sent].map(
      ([name, tensor]) => [kept.dense.has(name) ? `${name} twice` : name, tensor] as const,
    ),
  ]);
  requireLayout(
    all,
    new Map(spec.variables.map(({ name, shape }) => [name, { shape }])),
    `dense of ${where}`,
  );
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

/** Uploads a job. The caller's `tf.tidy` owns the tensors that are not frozen, and disposes them before the next job. */
export function deviceJobOf(
  { engine, packMemory }: { readonly engine: Engine; readonly packMemory: PackMemory },
  spec: ModelSpec,
  tasks: readonly TaskRows[],
  { dense, frozen, pack }: DeviceInputs,
): DeviceJob {
  // In the order of the spec, whichever input they came with.
  const variables = spec.variables.map(({ name, shape }): [string, tfjs.Tensor] => {
    const known = frozen.dense.get(name);
    const values = dense.get(name)?.values;
    if (known !== undefined) return [name, known];
    if (values === undefined) throw new Error('a job has all variables of its model');
    return [name, engine.tf.tensor(values, [...shape], 'float32')];
  });
  return {
    ...{ engine, spec, tasks, dense: Object.fromEntries(variables) },
    ...(pack === null
      ? { pack: frozen.rows === null ? {} : { rows: frozen.rows }, localIds: wholeTables(spec) }
      : packOnDevice({ engine, packMemory }, spec, pack.layout, (rows) => rows.set(pack.rows))),
  };
}

/**
 * Uploads a row pack. The caller's `tf.tidy` owns the tensor.
 *
 * @param write writes the rows of the layout.
 */
export function packOnDevice(
  { engine, packMemory }: { readonly engine: Engine; readonly packMemory: PackMemory },
  spec: ModelSpec,
  layout: RowPackLayout,
  write: (rows: Float32Array) => void,
): Pick<DeviceJob, 'pack' | 'localIds'> {
  const { rowCount } = layout;
  return {
    pack: paddedPack(engine, spec, { rowCount, write }, packMemory.of),
    localIds: localIdsByTable(layout),
  };
}

/** The place of each row when the tables follow one another. */
function wholeTables({ tables }: ModelSpec): LocalIds[] {
  let end = 0;
  return tables.map(({ rowCount }) => {
    const start = end;
    end += rowCount;
    return { placeOf: (id) => start + id };
  });
}

/** Name of the tensor of table rows in row packs and frozen inputs. */
const ROWS = 'rows';

/**
 * Tensors whose values are views on the bytes where they can be.
 *
 * @throws QianmoError of kind `data` when a tensor is not of 32-bit floats.
 */
function floatTensors(bytes: Uint8Array, where: string): Map<string, DenseTensor> {
  const coded = viewTensors(bytes, where);
  const tensors = floatsOf(coded);
  if (tensors !== null) return tensors;
  throw errorOf('data', 'an input of a job has tensors that are not 32-bit floats', {
    where,
    found: [...coded.keys()].join(', '),
    cure: 'coordinator and worker must run the same version',
  });
}

/** @throws QianmoError of kind `data` when names or shapes differ. */
function requireLayout(found: TensorLayout, expected: TensorLayout, where: string): void {
  const differences = layoutDifferences(found, expected);
  if (differences.length === 0) return;
  throw errorOf('data', 'the tensors of a job do not fit its model and tasks', {
    where,
    found: differences.join('; '),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

/** Tensors of the cache, which alone disposes of them. */
interface FrozenTensors {
  /** Tensors by name of the variable. */
  readonly dense: ReadonlyMap<string, tfjs.Tensor>;
  /** Every table whole, `[sum of table rows, tableRowWidth]`; null where jobs have row packs. */
  readonly rows: tfjs.Tensor2D | null;
}

const NOTHING: FrozenTensors = { dense: new Map(), rows: null };

export class FrozenTensorCache {
  readonly #engine: Engine;
  readonly #bySha256 = new LruCache<string, FrozenTensors>({ countMax: SHARED_KEPT_COUNT });

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * @param bytes as sent with the job; read where they are not known.
   * @throws QianmoError of kind `data` when the bytes are not tensors of 32-bit floats.
   */
  get(sha256: string | undefined, bytes: Uint8Array | null, where: string): FrozenTensors {
    if (sha256 === undefined || bytes === null) return NOTHING;
    const known = this.#bySha256.get(sha256);
    if (known !== undefined) return known;
    const tensors = this.#uploaded(bytes, where);
    for (const evicted of this.#bySha256.put(sha256, tensors)) disposeOf(evicted);
    return tensors;
  }

  dispose(): void {
    for (const tensors of this.#bySha256.clear()) disposeOf(tensors);
  }

  #uploaded(bytes: Uint8Array, where: string): FrozenTensors {
    const { tf } = this.#engine;
    const dense = new Map<string, tfjs.Tensor>();
    let rows: tfjs.Tensor2D | null = null;
    for (const [name, { shape, values }] of floatTensors(bytes, where)) {
      const tensor = tf.keep(tf.tensor(values, [...shape], 'float32'));
      // The rank is checked with the job's other tensors.
      if (name === ROWS) rows = tensor as tfjs.Tensor2D;
      else dense.set(name, tensor);
    }
    return { dense, rows };
  }
}

function disposeOf({ dense, rows }: FrozenTensors): void {
  for (const tensor of dense.values()) tensor.dispose();
  rows?.dispose();
}
