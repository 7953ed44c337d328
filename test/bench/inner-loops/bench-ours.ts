/**
 * The engine alone: the inner loops of every cell as plain, captured and rewritten graphs, jobs of
 * the project's models, a generator's step, the adaptation of 10,000 adgroups, and a profile of the
 * graphs. Writes `infra/results/inner-loops-ours.json` and `.md`. Needs no Python.
 *
 *   npm run bench -- --rounds 3 --run-ms 1000 --cells W1.first.1
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../../infra/library/package-root.js';
import { cell } from './cell-option.js';
import { cellName, CELLS } from './sides/cells.js';
import type { CellResult } from './cell-results.js';
import { machineDescription } from './machine-description.js';
import { measureCell } from './measure-cell.js';
import { measuredCellOf } from './measured-cell.js';
import { measureProducts } from './measure-products.js';
import { OtherResultSchema, type ProfileResult, type WorkResult } from './other-results.js';
import { ourMarkdown } from './our-results-table.js';
import { OUR_VARIANTS } from './sides/our-meta-step.js';
import { launchOf, threadEnvironment, type LaunchRoom } from './sides/sides.js';
import { readWorkloads, writeWorkloads } from './sides/workload-data.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, text, wholeNumber } from '../options/option-values.js';

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  'run-ms': { value: wholeNumber(), default: '1000', about: 'milliseconds of each measurement' },
  cells: {
    value: listOf(cell),
    default: CELLS.map(cellName).join(','),
    about: 'cells to measure, with commas between them',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
  folder: { value: text, default: tmpdir(), about: 'folder of what the bench makes meanwhile' },
});

const OTHER_WORK = fileURLToPath(new URL('other-work.js', import.meta.url));
const OTHER_WORK_TIMEOUT_MS = 20 * 60_000;

function otherResults(folder: string): (WorkResult | ProfileResult)[] {
  console.log("jobs of the project's models, a generator, an export, profiles");
  const output = execFileSync('taskset', ['-c', '0', process.execPath, OTHER_WORK, folder], {
    env: { ...process.env, ...threadEnvironment(1) },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: OTHER_WORK_TIMEOUT_MS,
  });
  return output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => OtherResultSchema.parse(JSON.parse(line)));
}

async function cellResults(folder: string, commit: string): Promise<CellResult[]> {
  const room: LaunchRoom = { python: null, environment: process.env, compileCache: folder };
  const { workloads } = readWorkloads(folder).description;
  const results: CellResult[] = [];
  for (const cell of options.cells) {
    console.log(cellName(cell));
    results.push(
      await measureCell(measuredCellOf(cell, workloads[cell.workload], commit), {
        workloadFolder: folder,
        accuracyOf: null,
        sides: ['ours'],
        launchOf: (side, parameters, core) => launchOf(side, parameters, core, room),
        variantsOf: () => OUR_VARIANTS,
        roundCount: options.rounds,
        runMs: options['run-ms'],
        say: (text) => console.log(text),
      }),
    );
  }
  return results;
}

const folder = mkdtempSync(join(options.folder, 'qianmo-workloads-'));
try {
  writeWorkloads(folder);
  const machine = machineDescription();
  const products = measureProducts({
    ...{ python: null, environment: process.env, compileCache: folder },
  });
  const cells = await cellResults(folder, machine.commit);
  const others = otherResults(folder);
  const results = {
    ...{ machine, products, cells },
    versions: cells[0]?.variants[0]?.versions ?? {},
    works: others.flatMap((result) => (result.kind === 'work' ? [result] : [])),
    profiles: others.flatMap((result) => (result.kind === 'profile' ? [result] : [])),
  };
  mkdirSync(options.output, { recursive: true });
  const at = (name: string): string => join(options.output, name);
  writeFileSync(at('inner-loops-ours.json'), `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(at('inner-loops-ours.md'), ourMarkdown(results));
  console.log(ourMarkdown(results));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
