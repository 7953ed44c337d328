/**
 * The experiment of the synthetic world: three settings, two click rates, several seeds, every arm.
 * Each cell is the whole job, run by the `qianmo` command as a user would: synthesize, prepare,
 * train, evaluate. Results of this commit are not recomputed. Writes
 * `infra/results/synthetic-world.json` and `.md`.
 *
 *   npm run bench:synthetic-world -- --seeds 1,2,3 --settings strong --rates 0.03,0.1
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseReport } from '../../coordinator/scoring/report-json.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { benchHeader, folderOfCommit } from './bench-header.js';
import { qianmo } from './qianmo-command.js';
import { experimentTable, type WorldCell } from './synthetic-world-table.js';
import { benchOptions } from './options/bench-options.js';
import { WORLD_SETTINGS } from '../../coordinator/synthesize/synthesis.js';
import {
  asWritten,
  listOf,
  oneOf,
  rowsAsWritten,
  anySeed,
  shareOfOne,
  text,
  wholeNumber,
} from './options/option-values.js';

const WORLD_CONFIG = new URL('test/bench/synthetic-world.yaml', packageRoot);
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const WorldConfigSchema = z.looseObject({ data: z.looseObject({}) });

const { commit, date, machine } = benchHeader();
const options = benchOptions(import.meta.url, {
  settings: {
    value: listOf(oneOf(WORLD_SETTINGS)),
    default: 'homogeneous,moderate,strong',
    about: 'settings to run, with commas between them',
  },
  rates: {
    value: listOf(shareOfOne),
    default: '0.03,0.1',
    about: 'click rates, with commas between them',
  },
  seeds: { value: listOf(anySeed), default: '1,2,3', about: 'seeds, with commas between them' },
  rows: { value: rowsAsWritten, default: '760000', about: 'rows of the log' },
  adgroups: { value: asWritten(wholeNumber()), default: '8000', about: 'adgroups of the log' },
  folder: {
    value: text,
    default: folderOfCommit('synthetic-world', { commit }),
    about: 'folder of what the bench makes meanwhile',
  },
  name: { value: text, default: 'synthetic-world', about: 'name of the record and its page' },
  workers: { value: wholeNumber(), default: '2', about: 'workers of each run' },
});

function runCell(setting: string, clickRate: number, seed: number): WorldCell {
  const size = `${options.rows}-${options.adgroups}`;
  const folder = join(options.folder, size, `${setting}-${clickRate}-${seed}`);
  const log = join(folder, 'log.csv');
  const configPath = join(folder, 'run.yaml');
  const reportPath = join(folder, 'evaluation.json');
  const config = cellConfig(folder, log, seed);
  const isSame = existsSync(configPath) && readFileSync(configPath, 'utf8') === config;
  if (!isSame || !existsSync(reportPath)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const world = ['--setting', setting, '--click-rate', String(clickRate), '--seed', String(seed)];
    qianmo(
      ...['synthesize', '--out', log, ...world],
      ...['--rows', options.rows, '--adgroups', options.adgroups],
    );
    writeFileSync(configPath, config);
    qianmo('prepare', configPath);
    rmSync(log);
    qianmo('train', configPath, '--workers', String(options.workers), '--fresh');
    qianmo('evaluate', configPath, '--workers', String(options.workers), '--fresh');
  }
  const report = parseReport(readFileSync(reportPath, 'utf8'), reportPath);
  return { setting, clickRate, seed, report };
}

/** The shared config with the cell's seed and paths. */
function cellConfig(folder: string, log: string, seed: number): string {
  const shared = WorldConfigSchema.parse(parse(readFileSync(WORLD_CONFIG, 'utf8')));
  const data = { ...shared.data, logs: log, store: join(folder, 'store') };
  return stringify({ ...shared, seed, data, output: folder });
}

const cells: WorldCell[] = [];
for (const setting of options.settings)
  for (const clickRate of options.rates)
    for (const seed of options.seeds) {
      process.stderr.write(`== ${setting}, click rate ${clickRate}, seed ${seed}\n`);
      cells.push(runCell(setting, clickRate, seed));
    }

const header = { commit, date, machine, rows: options.rows, adgroups: options.adgroups };
mkdirSync(RESULTS, { recursive: true });
const table = experimentTable(header, cells);
writeFileSync(join(RESULTS, `${options.name}.md`), table);
writeFileSync(
  join(RESULTS, `${options.name}.json`),
  `${JSON.stringify({ ...header, cells: cells.map(summaryOf) }, null, 1)}\n`,
);
process.stdout.write(table);

function summaryOf({ setting, clickRate, seed, report }: WorldCell): unknown {
  const slices = report.slices.map(({ name, adgroupCount, queryRowCount, arms }) => ({
    name,
    adgroupCount,
    queryRowCount,
    arms,
  }));
  return { setting, clickRate, seed, counts: report.counts, selection: report.selection, slices };
}
