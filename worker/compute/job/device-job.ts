/** A job on the device. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import type { RowPackLayout } from '../../../shared/tasks/row-pack.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import type { LocalIds } from '../batches/local-ids.js';
import { localIdsByTable } from '../batches/row-batch.js';
import type { UnitDropout } from '../batches/unit-masks.js';
import type { Engine } from '../engine/load-engine.js';
import { paddedPack, type DeviceTasks } from '../models/device-tasks.js';
import type { FrozenTensors } from './frozen-tensors.js';

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
export interface DeviceInputs {
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

/** Uploads a job. The caller's `tf.tidy` owns the tensors that are not frozen, and disposes them before the next job. */
export function deviceJobOf(
  { engine, packMemory }: { readonly engine: Engine; readonly packMemory: PackMemory },
  spec: ModelSpec,
  tasks: readonly TaskRows[],
  { dense, frozen, pack }: DeviceInputs,
): DeviceJob {
  const sent = uploaded(engine, dense);
  return {
    ...{ engine, spec, tasks },
    // In the order of the spec, whichever input they came with.
    dense: Object.fromEntries(
      spec.variables.map(({ name }) => [name, namedIn(frozen.dense.get(name) ?? sent.get(name))]),
    ),
    ...(pack === null
      ? {
          pack: frozen.rows === null ? {} : { rows: frozen.rows },
          localIds: wholeTables(spec),
        }
      : {
          pack: paddedPack(
            engine,
            spec,
            {
              rowCount: pack.layout.rowCount,
              write: (rows: Float32Array) => rows.set(pack.rows),
            },
            packMemory.of,
          ),
          localIds: localIdsByTable(pack.layout),
        }),
  };
}

function uploaded(
  { tf }: Engine,
  dense: ReadonlyMap<string, DenseTensor>,
): Map<string, tfjs.Tensor> {
  return new Map(
    [...dense].map(([name, { shape, values }]) => [name, tf.tensor(values, [...shape], 'float32')]),
  );
}

function namedIn(tensor: tfjs.Tensor | undefined): tfjs.Tensor {
  if (tensor === undefined) throw new Error('a job has all variables of its model');
  return tensor;
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
