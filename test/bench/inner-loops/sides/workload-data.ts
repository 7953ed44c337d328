/**
 * The workloads of the inner-loop benchmark and their data. The data is drawn once by one seeded
 * generator and written as raw little-endian arrays with a JSON description, so that every side
 * reads the same.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { randomStream, type RandomStream } from '../../../../shared/base/random.js';

const INNER_RATE = 0.01;
/** For the whole meta step; divided by the number of tasks, since gradients are sums over tasks. */
const META_RATE = 0.01;

const DescriptionSchema = z.strictObject({
  innerRate: z.number(),
  metaRate: z.number(),
  batchCount: z.int().positive(),
  workloads: z.record(
    z.enum(['W1', 'W2']),
    z.strictObject({
      taskCount: z.int().positive(),
      rowsPerTask: z.int().positive(),
      widths: z.array(z.int().positive()),
      /** Leading layers that are not adapted. */
      trunkLayerCount: z.int().nonnegative(),
      table: z
        .strictObject({
          rowCount: z.int().positive(),
          width: z.int().positive(),
          fieldCount: z.int().positive(),
        })
        .nullable(),
    }),
  ),
  arrays: z.record(
    z.string(),
    z.strictObject({
      file: z.string(),
      dtype: z.enum(['float32', 'int32']),
      shape: z.array(z.int().nonnegative()),
    }),
  ),
});

type WorkloadDescription = z.infer<typeof DescriptionSchema>;
export type WorkloadName = 'W1' | 'W2';
export type WorkloadShape = WorkloadDescription['workloads'][WorkloadName];
type ArrayValues = Float32Array | Int32Array;

export const FULL_SIZE: WorkloadDescription['workloads'] = {
  W1: {
    taskCount: 32,
    rowsPerTask: 64,
    widths: [256, 128, 64, 1],
    trunkLayerCount: 0,
    table: null,
  },
  W2: {
    taskCount: 256,
    rowsPerTask: 32,
    widths: [160, 128, 64, 1],
    trunkLayerCount: 1,
    table: { rowCount: 1_000_000, width: 16, fieldCount: 10 },
  },
};

const DESCRIPTION_FILE = 'workloads.json';
const ZIPF_EXPONENT = 1.2;
const TABLE_DEVIATION = 0.05;

/** Writes every array of `workloads` into `folder`. */
export function writeWorkloads(folder: string): WorkloadDescription {
  const [workloads, batchCount, seed] = [FULL_SIZE, 4, 20240601];
  mkdirSync(folder, { recursive: true });
  const arrays: WorkloadDescription['arrays'] = {};
  const write = (name: string, shape: number[], values: ArrayValues): void => {
    const file = `${name}.bin`;
    writeFileSync(join(folder, file), values);
    arrays[name] = { file, dtype: values instanceof Float32Array ? 'float32' : 'int32', shape };
  };
  for (const [name, shape] of workloadsOf(workloads)) {
    const stream = (...purpose: (string | number)[]): RandomStream =>
      randomStream(seed, name, ...purpose);
    writeParameters(name, shape, stream, write);
    if (shape.table !== null) writeTable(name, shape.table, stream('table'), write);
    const idOfRank = shape.table === null ? null : shuffledIds(shape.table.rowCount, stream('ids'));
    for (let batch = 0; batch < batchCount; batch += 1)
      writeBatch(`${name}.batch${batch}`, shape, stream('batch', batch), idOfRank, write);
  }
  const description = {
    ...{ innerRate: INNER_RATE, metaRate: META_RATE },
    ...{ batchCount, workloads, arrays },
  };
  writeDescription(folder, description);
  return description;
}

export function writeDescription(folder: string, description: WorkloadDescription): void {
  writeFileSync(join(folder, DESCRIPTION_FILE), `${JSON.stringify(description, null, 1)}\n`);
}

type WriteArray = (name: string, shape: number[], values: ArrayValues) => void;

function workloadsOf(workloads: WorkloadDescription['workloads']): [WorkloadName, WorkloadShape][] {
  return (['W1', 'W2'] as const).map((name) => [name, workloads[name]]);
}

function writeParameters(
  name: WorkloadName,
  { widths }: WorkloadShape,
  stream: (purpose: string, layer: number) => RandomStream,
  write: WriteArray,
): void {
  for (let layer = 0; layer + 1 < widths.length; layer += 1) {
    const [inputs = 0, outputs = 0] = widths.slice(layer, layer + 2);
    const deviation = Math.sqrt(2 / inputs);
    const draws = stream('weights', layer);
    write(
      `${name}.weight${layer}`,
      [inputs, outputs],
      floats(inputs * outputs, () => deviation * draws.normal()),
    );
    // Nonzero, so that a wrong bias gradient shows.
    write(
      `${name}.bias${layer}`,
      [outputs],
      floats(outputs, () => 0.1 * draws.normal()),
    );
  }
}

function writeTable(
  name: WorkloadName,
  { rowCount, width }: NonNullable<WorkloadShape['table']>,
  stream: RandomStream,
  write: WriteArray,
): void {
  const values = floats(rowCount * width, () => TABLE_DEVIATION * stream.normal());
  write(`${name}.table`, [rowCount, width], values);
}

function writeBatch(
  prefix: string,
  { taskCount, rowsPerTask, widths, table }: WorkloadShape,
  stream: RandomStream,
  idOfRank: Int32Array | null,
  write: WriteArray,
): void {
  const rowCount = taskCount * rowsPerTask;
  const used: Int32Array[] = [];
  for (const role of ['support', 'query']) {
    if (table === null || idOfRank === null) {
      const [inputWidth = 0] = widths;
      const inputs = floats(rowCount * inputWidth, () => stream.normal());
      write(`${prefix}.${role}Inputs`, [taskCount, rowsPerTask, inputWidth], inputs);
    } else {
      const ids = new Int32Array(rowCount * table.fieldCount).map(
        () => idOfRank[(zipf(stream, ZIPF_EXPONENT) - 1) % table.rowCount] ?? 0,
      );
      used.push(ids);
      write(`${prefix}.${role}Ids`, [taskCount, rowsPerTask, table.fieldCount], ids);
    }
    const labels = floats(rowCount, () => (stream.uniform() < 0.5 ? 1 : 0));
    write(`${prefix}.${role}Labels`, [taskCount, rowsPerTask], labels);
  }
  if (used.length === 0) return;
  const touched = Int32Array.from(new Set(used.flatMap((ids) => [...ids]))).sort();
  write(`${prefix}.touchedIds`, [touched.length], touched);
}

function floats(count: number, draw: () => number): Float32Array {
  const values = new Float32Array(count);
  for (let index = 0; index < count; index += 1) values[index] = draw();
  return values;
}

function shuffledIds(count: number, stream: RandomStream): Int32Array {
  return stream.shuffle(Int32Array.from({ length: count }, (_, id) => id));
}

/** Devroye's rejection method (Non-Uniform Random Variate Generation, 1986, section X.6.1). */
function zipf(stream: RandomStream, exponent: number): number {
  const power = exponent - 1;
  const bound = 2 ** power;
  for (;;) {
    const rank = Math.floor((1 - stream.uniform()) ** (-1 / power));
    const v = stream.uniform();
    if (rank > Number.MAX_SAFE_INTEGER) continue;
    const t = (1 + 1 / rank) ** power;
    if ((v * rank * (t - 1)) / (bound - 1) <= t / bound) return rank;
  }
}

export interface WorkloadArrays {
  readonly description: WorkloadDescription;
  readonly floats: (name: string) => Float32Array;
  readonly integers: (name: string) => Int32Array;
}

export function readWorkloads(folder: string): WorkloadArrays {
  const text = readFileSync(join(folder, DESCRIPTION_FILE), 'utf8');
  const description = DescriptionSchema.parse(JSON.parse(text));
  const bytesOf = (name: string, dtype: 'float32' | 'int32'): ArrayBuffer => {
    const entry = description.arrays[name];
    if (entry?.dtype !== dtype) throw new Error(`the workloads have no ${dtype} array ${name}`);
    const bytes = readFileSync(join(folder, entry.file));
    // A copy that starts at a multiple of four.
    return new Uint8Array(bytes).buffer;
  };
  return {
    description,
    floats: (name) => new Float32Array(bytesOf(name, 'float32')),
    integers: (name) => new Int32Array(bytesOf(name, 'int32')),
  };
}
