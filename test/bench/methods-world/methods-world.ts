/**
 * All methods side by side on the synthetic world: each cell is the whole job for each method, run by
 * the `qianmo` command as a user would, on one task store. What was run before is not run again.
 * Writes `infra/results/methods-world.json` and `.md`.
 *
 *   npm run bench:methods-world -- --seeds 1,2,3,4,5 --settings strong --rates 0.1
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../../infra/cli/package-root.js';
import { benchHeader } from '../bench-header.js';
import { methodNames, runCell, type CellOptions } from './method-runs.js';
import { methodRows, methodsTable, type ComparedCell } from './methods-table.js';

const { values: options } = parseArgs({
  options: {
    settings: { type: 'string', default: 'homogeneous,moderate,strong' },
    rates: { type: 'string', default: '0.03,0.1' },
    seeds: { type: 'string', default: '1,2,3,4,5' },
    methods: { type: 'string', default: methodNames().join(',') },
    rows: { type: 'string', default: '760000' },
    adgroups: { type: 'string', default: '8000' },
    folder: { type: 'string', default: 'runs/methods-world' },
    workers: { type: 'string', default: '2' },
  },
});

const methods = options.methods.split(',');
const cellOptions: CellOptions = { ...options, methods };
const groups = new Map<string, ComparedCell[]>();
for (const setting of options.settings.split(','))
  for (const clickRate of options.rates.split(',').map(Number))
    for (const seed of options.seeds.split(',').map(Number)) {
      const cell = { setting, clickRate, seed };
      const title = `${setting}, click rate ${100 * clickRate} %`;
      const compared = { cell, report: runCell(cell, cellOptions) };
      groups.set(title, [...(groups.get(title) ?? []), compared]);
    }

const header = benchHeader();
const lines = [
  `Commit ${header.commit}, ${header.date}; ${header.machine}. ${options.rows} rows, ${options.adgroups} adgroups, seeds`,
  `${options.seeds}; test adgroups only. Differences are per impression, means over seeds with 95 % intervals from the`,
  'paired bootstrap of each seed over adgroups; below 0 is better than finetuning. Every arm chose its cell from a',
  'grid of the same size on validation adgroups. Made by `npm run bench:methods-world`.',
];
const results = new URL('infra/results/', packageRoot).pathname;
const table = methodsTable(lines, groups, methods);
writeFileSync(join(results, 'methods-world.md'), table);
const cells = [...groups].map(([title, of]) => ({
  title,
  seeds: of.map(({ cell }) => cell.seed),
  rows: methodRows(of, methods),
}));
writeFileSync(
  join(results, 'methods-world.json'),
  `${JSON.stringify({ ...header, rows: options.rows, adgroups: options.adgroups, cells }, null, 1)}\n`,
);
process.stdout.write(table);
