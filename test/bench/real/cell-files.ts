/** A cell of the bench (a set, a support size and a seed) as the files that every side reads. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { at, numberAt } from '../../../shared/base/arrays.js';
import { splitCsvOf, rolesOf, type RoledRow, type SupportRule } from './row-roles.js';
import { supportName, type RealSet } from './real-sets.js';
import { csvOf, type SetLog } from './set-logs.js';

export interface RealCell {
  readonly set: RealSet;
  readonly support: SupportRule;
  readonly seed: number;
}

/** Paths are absolute. */
export interface CellFiles {
  readonly folder: string;
  /** The rows of the set: task, clicks, impressions, features. */
  readonly log: string;
  /** row, task and role, as `data.splitFile` has them. */
  readonly split: string;
}

/** The query rows of the test tasks, ascending by row. Arrays are parallel. */
export interface TestRows {
  readonly rows: readonly number[];
  /** From 0, in the order of the tasks' first rows. */
  readonly tasks: readonly number[];
  readonly taskCount: number;
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
}

export interface WrittenCell {
  readonly files: CellFiles;
  readonly roled: readonly RoledRow[];
  readonly test: TestRows;
  readonly taskCounts: Readonly<Record<'train' | 'validation' | 'test', number>>;
  /** Rows of tasks too small to be divided, which only teach what all tasks share. */
  readonly trunkRowCount: number;
}

const QUERY_ROWS_MIN = 5;

export function cellKey({ set, support, seed }: RealCell): string {
  return `${set.name}/${supportName(support)}/${seed}`;
}

/** @param folder of all cells */
export function writeCell(cell: RealCell, data: string, folder: string): WrittenCell {
  const { set, support, seed } = cell;
  // A synthetic world differs from seed to seed.
  const ofSet = resolve(folder, set.name, set.needs === undefined ? `world-${seed}` : 'rows');
  const ofCell = resolve(folder, set.name, `${support.count}-${support.by}-${seed}`);
  mkdirSync(ofSet, { recursive: true });
  mkdirSync(ofCell, { recursive: true });
  const log = set.log(data, ofSet, seed);
  const roled = rolesOf(log.tasks, log.times, {
    ...{ rule: support, seed, queryRowsMin: QUERY_ROWS_MIN },
    heldOutQueryRowsMax: set.heldOutQueryRowsMax,
  });
  const files = { folder: ofCell, log: join(ofSet, 'rows.csv'), split: join(ofCell, 'split.csv') };
  writeCellFiles(files, set, log, roled);
  return writtenCell(files, log, roled);
}

export function writeCellFiles(
  files: CellFiles,
  { features }: RealSet,
  log: SetLog,
  roled: readonly RoledRow[],
): void {
  if (!existsSync(files.log)) writeWhole(files.log, csvOf(log));
  writeWhole(files.split, splitCsvOf(roled));
  writeFields(files, features);
}

function writeFields({ folder, log }: CellFiles, features: RealSet['features']): void {
  const described = { log, task: 'task', features };
  writeWhole(join(folder, 'fields.json'), `${JSON.stringify(described, null, 1)}\n`);
}

/**
 * The same files for peers, in a folder that is named for what these say: peers know nothing of the product, so what they have found is
 * kept for cells of other commits.
 *
 * @param folder of the peers of all cells
 */
export function peerFiles(files: CellFiles, { features }: RealSet, folder: string): CellFiles {
  const hash = createHash('sha256').update(JSON.stringify(features));
  for (const path of [files.log, files.split]) hash.update(readFileSync(path));
  const ofPeers = resolve(folder, hash.digest('hex').slice(0, 16));
  mkdirSync(ofPeers, { recursive: true });
  const own = { ...files, folder: ofPeers, split: join(ofPeers, 'split.csv') };
  writeWhole(own.split, readFileSync(files.split, 'utf8'));
  writeFields(own, features);
  return own;
}

export function writtenCell(
  files: CellFiles,
  log: SetLog,
  roled: readonly RoledRow[],
): WrittenCell {
  const tasksOf = (split: string): number => {
    const found = roled.filter(({ role }) => role.startsWith(`${split}-`));
    return new Set(found.map(({ task }) => task)).size;
  };
  return {
    ...{ files, roled },
    test: testRowsOf(log, roled),
    taskCounts: {
      train: tasksOf('train'),
      validation: tasksOf('validation'),
      test: tasksOf('test'),
    },
    trunkRowCount: roled.filter(({ role }) => role === 'train').length,
  };
}

function testRowsOf(log: SetLog, roled: readonly RoledRow[]): TestRows {
  const query = roled.filter(({ role }) => role === 'test-query');
  const places = new Map<string, number>();
  const tasks = query.map(({ task }) => {
    const place = places.get(task) ?? places.size;
    places.set(task, place);
    return place;
  });
  const column = (values: readonly number[]): Float64Array =>
    Float64Array.from(query, ({ row }) => numberAt(values, row));
  return {
    ...{ rows: query.map(({ row }) => row), tasks, taskCount: places.size },
    ...{ clicks: column(log.clicks), impressions: column(log.impressions) },
  };
}

/** A file that is there is whole. Written only if it differs, so that later readers see it unchanged. */
export function writeWhole(path: string, text: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
  writeFileSync(`${path}.unfinished`, text);
  renameSync(`${path}.unfinished`, path);
}

/** @returns the logits of the test rows, in their order */
export function readPredictions(path: string, { rows }: Pick<TestRows, 'rows'>): Float64Array {
  const [, ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n');
  const found = new Map(
    lines.map((line) => {
      const [row = '', probability = ''] = line.split(',');
      return [Number(row), Number(probability)];
    }),
  );
  if (lines.length !== rows.length)
    throw new Error(`${path} has ${lines.length} predictions, expected ${rows.length}`);
  return Float64Array.from(rows, (row) => {
    const probability = found.get(row);
    if (probability === undefined) throw new Error(`${path} has no prediction for row ${row}`);
    return clippedLogit(probability);
  });
}

/** Beyond it, a probability counts as this close to 0 or 1, as in `peers/metrics.py`. */
const PROBABILITY_MIN = 1e-7;

function clippedLogit(probability: number): number {
  const clipped = Math.min(Math.max(probability, PROBABILITY_MIN), 1 - PROBABILITY_MIN);
  return Math.log(clipped) - Math.log1p(-clipped);
}

export function predictionsCsv(rows: readonly number[], probabilities: readonly number[]): string {
  const lines = rows.map((row, place) => `${row},${at(probabilities, place)}`);
  return `${['row,probability', ...lines].join('\n')}\n`;
}
