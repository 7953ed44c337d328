/**
 * The generator's training step in the published setting of Meta-Embedding, on films, users and
 * rows drawn from a seed: a task store for our side, and the same data as plain arrays for the
 * peers. The base model is random as well, because the speed of a step does not depend on its
 * values.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelConfigSchema, type ModelConfig } from '../../../shared/models/model-config.js';
import {
  initialMetaParameters,
  type MetaParameters,
} from '../../../shared/models/initial-values.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { MethodConfig } from '../../../shared/methods/methods.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import {
  GENRES_LENGTH_MAX,
  TABLE_ROW_COUNTS,
  TITLE_LENGTH_MAX,
  type FilmAttributes,
  type RatingRows,
  type UserAttributes,
} from '../meta-embedding/movielens-files.js';
import { BASE_MODELS } from '../meta-embedding/base-models.js';
import { FEATURES, keptTaskStore, type StoredTask } from '../meta-embedding/task-stores.js';

export const GENERATOR_MODEL: ModelConfig = ModelConfigSchema.parse({
  ...BASE_MODELS.deepfm,
  generated: 'film',
});
const ATTRIBUTES = ['year', 'title', 'genres'];
export const ROWS_PER_SET = 20;
/** Larger than the published 1e-4, so that a wrong Hessian term shows; the cost is the same. */
const INNER_RATE = 0.1;
const COLD_SHARE = 0.1;
/**
 * The rate of plain gradient descent on the mean over tasks, large enough that float32 resolves a
 * step.
 */
export const META_RATE = 10;

export const GENERATOR_METHOD: MethodConfig = {
  kind: 'meta-embedding',
  attributes: ATTRIBUTES,
  innerSteps: 1,
  innerRate: INNER_RATE,
  coldShare: COLD_SHARE,
  form: 'paper',
};

/** The published number, and a larger one. */
const TASKS_PER_STEP = [25, 100] as const;

export const GENERATOR_CELLS = TASKS_PER_STEP.map(generatorCell);
export const BATCH_COUNT = 4;

export function generatorCell(tasksPerStep: number): string {
  return `generator.${tasksPerStep}`;
}

/** @throws Error for any other name. */
export function tasksPerStepOf(cell: string): number {
  const found = TASKS_PER_STEP.find((tasks) => generatorCell(tasks) === cell);
  if (found === undefined) throw new Error(`there is no cell ${cell}`);
  return found;
}

const USER_COUNT = 6_040;
const STORE = 'store';
const DESCRIPTION_FILE = 'workload.json';
const SEED = 20240603;

export function generatorSpec(): ModelSpec {
  return modelSpecOf(GENERATOR_MODEL, FEATURES, GENERATOR_METHOD);
}

/** Every value is nonzero, so that no part of the gradient vanishes. */
export function baseParameters(): MetaParameters {
  const meta = initialMetaParameters(generatorSpec(), SEED);
  const stream = randomStream(SEED, 'off zero');
  const shifted = [...meta.tables].filter(([name]) => name !== 'title' && name !== 'genres');
  for (const [, { values }] of [...shifted, ...meta.dense])
    for (let index = 0; index < values.length; index += 1)
      values[index] = (values[index] ?? 0) + 0.05 * stream.normal();
  return meta;
}

/** Store indices of the tasks of a batch. */
export function batchTasks(tasksPerStep: number, batch: number): number[] {
  return Array.from({ length: tasksPerStep }, (_, task) => batch * tasksPerStep + task);
}

export function storeFolder(folder: string): string {
  return join(folder, STORE);
}

/** Writes the store and the arrays. */
export async function writeGeneratorWorkload(folder: string): Promise<void> {
  const stream = randomStream(SEED, 'films, users and rows');
  const taskCount = BATCH_COUNT * Math.max(...TASKS_PER_STEP);
  const films = new Map(
    Array.from({ length: taskCount }, (_, film) => [film + 1, drawnFilm(stream)]),
  );
  const users = new Map(
    Array.from({ length: USER_COUNT }, (_, user) => [user + 1, drawnUser(stream)]),
  );
  await keptTaskStore(
    storeFolder(folder),
    drawnRows(stream, taskCount),
    { films, users },
    Array.from({ length: taskCount }, (_, task) => filmTask(task)),
  );
  await writeArrays(folder);
}

function drawnFilm(stream: RandomStream): FilmAttributes {
  // Positions before the words hold id 0, as in the authors' files.
  const padded = (length: number, wordCount: number, idCount: number): number[] =>
    Array.from({ length }, (_, place) =>
      place < length - wordCount ? 0 : 1 + stream.below(idCount - 1),
    );
  return {
    year: 1 + stream.below(TABLE_ROW_COUNTS.year - 1),
    title: padded(TITLE_LENGTH_MAX, 1 + stream.below(5), TABLE_ROW_COUNTS.title),
    genres: padded(GENRES_LENGTH_MAX, 1 + stream.below(3), TABLE_ROW_COUNTS.genres),
  };
}

function drawnUser(stream: RandomStream): UserAttributes {
  return {
    age: stream.below(TABLE_ROW_COUNTS.age),
    gender: stream.below(TABLE_ROW_COUNTS.gender),
    occupation: stream.below(TABLE_ROW_COUNTS.occupation),
  };
}

function drawnRows(stream: RandomStream, filmCount: number): RatingRows {
  const rowCount = 2 * ROWS_PER_SET * filmCount;
  return {
    filmIds: Int32Array.from(
      { length: rowCount },
      (_, row) => 1 + Math.floor(row / (2 * ROWS_PER_SET)),
    ),
    userIds: Int32Array.from({ length: rowCount }, () => 1 + stream.below(USER_COUNT)),
    clicks: Uint8Array.from({ length: rowCount }, () => stream.below(2)),
  };
}

function filmTask(task: number): StoredTask {
  const rows = Array.from({ length: ROWS_PER_SET }, (_, row) => 2 * ROWS_PER_SET * task + row);
  return {
    key: `film ${task + 1}`,
    split: 'train',
    support: rows,
    query: rows.map((row) => row + ROWS_PER_SET),
  };
}

interface ArrayEntry {
  readonly file: string;
  readonly dtype: 'float32' | 'int32';
  readonly shape: readonly number[];
}

async function writeArrays(folder: string): Promise<void> {
  const arrays: Record<string, ArrayEntry> = {};
  const write = (
    name: string,
    shape: readonly number[],
    values: Float32Array | Int32Array,
  ): void => {
    const file = `${name}.bin`;
    writeFileSync(join(folder, file), values);
    const dtype = values instanceof Float32Array ? 'float32' : 'int32';
    arrays[name] = { file, dtype, shape: [...shape] };
  };
  const { dense, tables } = baseParameters();
  for (const [name, { shape, values }] of dense) write(`dense.${name}`, shape, values);
  for (const [name, { rowCount, width, values }] of tables)
    write(`table.${name}`, [rowCount, width], values);
  const store = await openTaskStore(storeFolder(folder), {});
  for (const tasksPerStep of TASKS_PER_STEP)
    for (let batch = 0; batch < BATCH_COUNT; batch += 1) {
      const tasks = await store.readTasks(batchTasks(tasksPerStep, batch));
      writeBatch(`${generatorCell(tasksPerStep)}.batch${batch}`, tasks, write);
    }
  await store.close();
  const description = {
    ...{ innerRate: INNER_RATE, coldShare: COLD_SHARE, metaRate: META_RATE },
    ...{ batchCount: BATCH_COUNT, width: generatorSpec().embeddingWidth, arrays },
  };
  writeFileSync(join(folder, DESCRIPTION_FILE), `${JSON.stringify(description, null, 1)}\n`);
}

function writeBatch(
  prefix: string,
  tasks: readonly TaskRows[],
  write: (name: string, shape: readonly number[], values: Float32Array | Int32Array) => void,
): void {
  const { categoryFeatures, bagFeatures } = generatorSpec();
  const byTask = [tasks.length, ROWS_PER_SET];
  for (const [role, first] of [['support', 0] as const, ['query', ROWS_PER_SET] as const]) {
    /** The role's rows of every task, concatenated. */
    const joined = (columnOf: (task: TaskRows) => Int32Array, length: number): Int32Array =>
      Int32Array.from(
        tasks.flatMap((task) => [
          ...columnOf(task).subarray(first * length, (first + ROWS_PER_SET) * length),
        ]),
      );
    for (const [place, name] of categoryFeatures.entries())
      write(
        `${prefix}.${role}.${name}`,
        byTask,
        joined(({ categoryIds }) => categoryIds[place] ?? new Int32Array(), 1),
      );
    for (const [place, { name, lengthMax }] of bagFeatures.entries())
      write(
        `${prefix}.${role}.${name}`,
        [...byTask, lengthMax],
        joined(({ bagIds }) => bagIds[place] ?? new Int32Array(), lengthMax),
      );
    const labels = tasks.flatMap(({ clicks }) => [...clicks.subarray(first, first + ROWS_PER_SET)]);
    write(`${prefix}.${role}.labels`, byTask, Float32Array.from(labels));
  }
}
