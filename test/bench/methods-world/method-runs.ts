/** The runs of one cell of the methods' world: one task store, one run of the command for each method. */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { qianmo } from '../qianmo-command.js';
import type { Cell, WorldMethods, WorldSize } from './world-methods.js';

export interface RunOptions extends WorldSize {
  /** Shared by all cells. */
  readonly folder: string;
  /** 0: in one process, without a queue. */
  readonly workers: string;
}

export function cellFolder(cell: Cell, { folder, rows, adgroups }: RunOptions): string {
  return join(folder, `${rows}-${adgroups}`, `${cell.setting}-${cell.clickRate}-${cell.seed}`);
}

/** Does nothing if the same run was made before. */
export function runMethod(
  methods: WorldMethods,
  name: string,
  cell: Cell,
  options: RunOptions,
): void {
  const folder = cellFolder(cell, options);
  const output = join(folder, name);
  const path = join(output, 'run.yaml');
  const config = methods.runConfigOf(name, cell, folder);
  const isSame = existsSync(path) && readFileSync(path, 'utf8') === config;
  if (isSame && existsSync(join(output, 'evaluation.json'))) return;
  process.stderr.write(`== ${folder}, ${name}\n`);
  rmSync(output, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  writeFileSync(path, config);
  if (!existsSync(join(folder, 'store', 'manifest.json'))) prepareWorld(cell, options, path);
  const how = options.workers === '0' ? ['--processes', '1'] : ['--workers', options.workers];
  qianmo('train', path, ...how, '--fresh');
  qianmo('evaluate', path, ...how, '--fresh');
}

function prepareWorld(cell: Cell, options: RunOptions, config: string): void {
  const log = join(cellFolder(cell, options), 'log.csv');
  const world = ['--setting', cell.setting, '--click-rate', String(cell.clickRate)];
  const size = ['--rows', options.rows, '--adgroups', options.adgroups];
  qianmo('synthesize', '--out', log, ...world, '--seed', String(cell.seed), ...size);
  qianmo('prepare', config);
  rmSync(log);
}
