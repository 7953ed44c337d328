/** The runs of one cell of the methods' world: one task store, one run for each method, one comparison. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import {
  ComparisonReportSchema,
  type ComparedSlice,
} from '../../../coordinator/comparison/comparison-report.js';
import { packageRoot } from '../../../infra/cli/package-root.js';

export interface Cell {
  readonly setting: string;
  readonly clickRate: number;
  readonly seed: number;
}

export interface CellOptions {
  readonly rows: string;
  readonly adgroups: string;
  readonly folder: string;
  readonly workers: string;
  /** In the order of the table; the first has the arms that others are compared with. */
  readonly methods: readonly string[];
}

/** All arms and methods of a cell, by slice; the first run is the finetuned arm. */
export interface CellComparison {
  readonly slices: readonly Pick<ComparedSlice, 'name' | 'runs'>[];
}

/** What one comparison takes beside the run that the others are compared with. */
const COMPARED_COUNT_MAX = 7;

const QIANMO = new URL('infra/bin/qianmo.mjs', packageRoot).pathname;
const WORLD_CONFIG = new URL('test/bench/synthetic-world.yaml', packageRoot);
const METHODS_CONFIG = new URL('test/bench/methods-world/methods.yaml', packageRoot);
/** Arms of the first run beside its own method. */
export const REFERENCE_ARMS = [
  'constant',
  'global',
  'global-shift',
  'finetuned',
  'oracle',
] as const;

const WorldConfigSchema = z.looseObject({
  data: z.looseObject({}),
  model: z.looseObject({}),
  method: z.looseObject({}),
  evaluation: z.looseObject({}),
});
const MethodsSchema = z.record(
  z.string(),
  z.strictObject({ model: z.looseObject({}).optional(), method: z.looseObject({}).optional() }),
);

export function methodNames(): string[] {
  return Object.keys(methodChanges());
}

function methodChanges(): z.infer<typeof MethodsSchema> {
  return MethodsSchema.parse(parse(readFileSync(METHODS_CONFIG, 'utf8')));
}

function qianmo(...words: string[]): string {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  return execFileSync(process.execPath, [QIANMO, ...words], {
    stdio: [...stdio],
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
}

/** Runs what is not there yet. */
export function runCell(cell: Cell, options: CellOptions): CellComparison {
  const folder = join(options.folder, `${cell.setting}-${cell.clickRate}-${cell.seed}`);
  mkdirSync(folder, { recursive: true });
  for (const name of options.methods) runMethod(cell, options, folder, name);
  const [first = ''] = options.methods;
  const others = [
    ...REFERENCE_ARMS.filter((arm) => arm !== 'finetuned').map(
      (arm) => `${join(folder, first)}:${arm}`,
    ),
    ...options.methods.map((name) => `${join(folder, name)}:meta-adapted`),
  ];
  const parts: CellComparison[] = [];
  for (let start = 0; start < others.length; start += COMPARED_COUNT_MAX) {
    const chunk = others.slice(start, start + COMPARED_COUNT_MAX);
    const runs = [`${join(folder, first)}:finetuned`, ...chunk];
    const out = ['--out', join(folder, `comparison-${start}`), '--format', 'json'];
    const json: unknown = JSON.parse(qianmo('compare', ...runs, ...out));
    parts.push(ComparisonReportSchema.parse(json));
  }
  return merged(parts);
}

/** Every part has the same first run and the same slices. */
export function merged(parts: readonly CellComparison[]): CellComparison {
  const [first, ...rest] = parts;
  if (first === undefined) throw new Error('a cell has something to compare');
  return {
    slices: first.slices.map(({ name, runs }, place) => ({
      name,
      runs: [...runs, ...rest.flatMap(({ slices }) => slices[place]?.runs.slice(1) ?? [])],
    })),
  };
}

function runMethod(cell: Cell, options: CellOptions, folder: string, name: string): void {
  const output = join(folder, name);
  if (existsSync(join(output, 'evaluation.json'))) return;
  process.stderr.write(`== ${folder}, ${name}\n`);
  mkdirSync(output, { recursive: true });
  const config = join(output, 'run.yaml');
  writeFileSync(config, methodConfig(cell, options, folder, name));
  if (!existsSync(join(folder, 'store', 'manifest.json')))
    prepareWorld(cell, options, folder, config);
  qianmo('train', config, '--workers', options.workers, '--fresh');
  qianmo('evaluate', config, '--workers', options.workers, '--fresh');
}

function prepareWorld(cell: Cell, options: CellOptions, folder: string, config: string): void {
  const log = join(folder, 'log.csv');
  const world = ['--setting', cell.setting, '--click-rate', String(cell.clickRate)];
  const size = ['--rows', options.rows, '--adgroups', options.adgroups];
  qianmo('synthesize', '--out', log, ...world, '--seed', String(cell.seed), ...size);
  qianmo('prepare', config);
  rmSync(log);
}

function methodConfig(cell: Cell, options: CellOptions, folder: string, name: string): string {
  const world = WorldConfigSchema.parse(parse(readFileSync(WORLD_CONFIG, 'utf8')));
  const change = methodChanges()[name];
  if (change === undefined) throw new Error(`no method ${name} in methods.yaml`);
  const isFirst = name === options.methods[0];
  return stringify({
    ...world,
    seed: cell.seed,
    data: { ...world.data, logs: join(folder, 'log.csv'), store: join(folder, 'store') },
    model: { ...world.model, ...change.model },
    method: change.method ?? world.method,
    evaluation: {
      ...world.evaluation,
      ...(isFirst ? {} : { arms: ['meta-unadapted', 'meta-adapted'] }),
    },
    output: join(folder, name),
  });
}
