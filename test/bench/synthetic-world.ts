/**
 * The experiment of the synthetic world: three settings, two click rates, several seeds, every arm.
 * Each cell is the whole job, run by the `qianmo` command as a user would: synthesize, prepare,
 * train, evaluate. Writes `infra/results/synthetic-world.json` and `.md`.
 *
 *   npm run bench:synthetic-world -- --seeds 1,2,3 --settings strong --rates 0.03,0.1
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseReport } from '../../coordinator/evaluation/report-json.js';
import { packageRoot } from '../../infra/cli/package-root.js';
import { experimentTable, type WorldCell } from './synthetic-world-table.js';

const QIANMO = new URL('infra/bin/qianmo.mjs', packageRoot).pathname;
const WORLD_CONFIG = new URL('test/bench/synthetic-world.yaml', packageRoot);
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const WorldConfigSchema = z.looseObject({ data: z.looseObject({}) });

const { values: options } = parseArgs({
  options: {
    settings: { type: 'string', default: 'homogeneous,moderate,strong' },
    rates: { type: 'string', default: '0.03,0.1' },
    seeds: { type: 'string', default: '1,2,3' },
    rows: { type: 'string', default: '760000' },
    adgroups: { type: 'string', default: '8000' },
    folder: { type: 'string', default: 'runs/synthetic-world' },
    name: { type: 'string', default: 'synthetic-world' },
    workers: { type: 'string', default: '2' },
  },
});

function qianmo(...words: string[]): void {
  execFileSync(process.execPath, [QIANMO, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}

function runCell(setting: string, clickRate: number, seed: number): WorldCell {
  const folder = join(options.folder, `${setting}-${clickRate}-${seed}`);
  const reportPath = join(folder, 'evaluation.json');
  if (!existsSync(reportPath)) {
    mkdirSync(folder, { recursive: true });
    const log = join(folder, 'log.csv');
    const world = ['--setting', setting, '--click-rate', String(clickRate), '--seed', String(seed)];
    const size = ['--rows', options.rows, '--adgroups', options.adgroups];
    qianmo('synthesize', '--out', log, ...world, ...size);
    const config = join(folder, 'run.yaml');
    writeFileSync(config, cellConfig(folder, log, seed));
    qianmo('prepare', config);
    rmSync(log);
    qianmo('train', config, '--workers', options.workers, '--fresh');
    qianmo('evaluate', config, '--workers', options.workers, '--fresh');
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
for (const setting of options.settings.split(','))
  for (const clickRate of options.rates.split(',').map(Number))
    for (const seed of options.seeds.split(',').map(Number)) {
      process.stderr.write(`== ${setting}, click rate ${clickRate}, seed ${seed}\n`);
      cells.push(runCell(setting, clickRate, seed));
    }

const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
const header = {
  commit,
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}`,
  rows: options.rows,
  adgroups: options.adgroups,
};
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
