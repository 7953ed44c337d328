/**
 * A large log from nothing to task store, by the `qianmo` command as a user would: synthesize, then
 * prepare with each of several memory bounds. Memory is measured from outside, including children.
 * Writes `infra/results/log-to-store.json` and `.md`.
 *
 *   npm run bench:log-to-store -- --rows 10M --memory 2048,1024
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseRowCount } from '../../coordinator/synthesize/row-count.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { benchHeader, grouped, markdownTable } from './bench-header.js';
import { watched, type WatchedCommand } from './resident-memory.js';

/** Not the executable, which first checks the setup. */
const COMMAND = fileURLToPath(new URL('../../infra/cli/main.js', import.meta.url));
const EXAMPLE = new URL('infra/examples/synthetic.yaml', packageRoot);
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const ExampleSchema = z.looseObject({ data: z.looseObject({}) });
const StoreSchema = z.looseObject({ taskCount: z.number(), rowCount: z.number() });

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '10M' },
    memory: { type: 'string', default: '2048,1024' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const rowCount = parseRowCount(options.rows);

interface Stage extends Omit<WatchedCommand, 'output'> {
  readonly stage: string;
  readonly memoryMiBMax: number | null;
  readonly loadBefore: number;
  readonly rowsPerSecond: number;
  readonly detail: string;
}

async function stageOf(
  stage: string,
  memoryMiBMax: number | null,
  words: readonly string[],
  detailOf: (output: string) => string,
): Promise<Stage> {
  const loadBefore = Math.round((loadavg()[0] ?? 0) * 10) / 10;
  const { output, ...figures } = await watched([COMMAND, ...words]);
  const rowsPerSecond = Math.round(rowCount / figures.seconds);
  return { stage, memoryMiBMax, loadBefore, rowsPerSecond, ...figures, detail: detailOf(output) };
}

/** The example's config with paths and the memory bound. */
function configText(folder: string, memoryMiBMax: number): string {
  const example = ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8')));
  const store = join(folder, `store-${memoryMiBMax}`);
  const data = { ...example.data, logs: join(folder, 'log.csv'), store, memoryMiBMax };
  return stringify({ ...example, data, output: join(folder, 'output') });
}

function storeDetail(output: string): string {
  const store = StoreSchema.parse(JSON.parse(output));
  return `${grouped(store.taskCount)} tasks, ${grouped(store.rowCount)} rows kept`;
}

async function stagesIn(folder: string): Promise<Stage[]> {
  const log = join(folder, 'log.csv');
  const world = ['--setting', 'strong', '--seed', '7', '--rows', options.rows, '--out', log];
  const logSize = (): string => `${grouped(Math.round(statSync(log).size / 2 ** 20))} MiB of CSV`;
  const stages = [await stageOf('synthesize', null, ['synthesize', ...world], logSize)];
  for (const memoryMiBMax of options.memory.split(',').map(Number)) {
    const config = join(folder, `run-${memoryMiBMax}.yaml`);
    writeFileSync(config, configText(folder, memoryMiBMax));
    const words = ['prepare', config, '--format', 'json'];
    stages.push(await stageOf('prepare', memoryMiBMax, words, storeDetail));
  }
  return stages;
}

function report(header: ReturnType<typeof benchHeader>, stages: readonly Stage[]): string {
  return [
    '# From a configuration to a task store',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}; ${grouped(rowCount)} rows of infra/examples/synthetic.yaml.`,
    'Each row is one `qianmo` command, including the start of Node. Resident memory is the largest sum over the',
    "command's processes, sampled every 50 ms. The high-water mark is the kernel's figure for one process.",
    'The two cores also ran other work (see the load). CPU seconds are those of the command alone.',
    '',
    ...markdownTable(
      [
        'stage',
        'data.memoryMiBMax',
        'seconds',
        'rows/s',
        'CPU seconds',
        'resident MiB',
        'high-water MiB',
        'load before',
        'result',
      ],
      stages.map((stage) => [
        stage.stage,
        stage.memoryMiBMax ?? '',
        stage.seconds,
        grouped(stage.rowsPerSecond),
        stage.cpuSeconds.toFixed(1),
        stage.residentMiBMax,
        stage.processMiBMax,
        stage.loadBefore,
        stage.detail,
      ]),
    ),
    '',
  ].join('\n');
}

const header = benchHeader();
const folder = mkdtempSync(join(options.folder, 'qianmo-log-to-store-'));
try {
  const stages = await stagesIn(folder);
  const text = report(header, stages);
  mkdirSync(RESULTS, { recursive: true });
  const json = JSON.stringify({ ...header, rows: rowCount, stages }, null, 1);
  writeFileSync(join(RESULTS, 'log-to-store.json'), `${json}\n`);
  writeFileSync(join(RESULTS, 'log-to-store.md'), text);
  process.stdout.write(text);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
