/**
 * A large log from nothing to task store, by the `qianmo` command as a user would: synthesize, then
 * prepare with each of several memory bounds. In each round, plain DuckDB reads the same log, sorts it by
 * adgroup and time and writes Parquet, so that the ratio of the two holds on a machine that is shared.
 * Memory is measured from outside, including children. Writes `infra/results/log-to-store.json` and `.md`.
 *
 *   npm run bench -- prepare --rows 10M --memory 2048,1024 --rounds 3
 */

import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DuckDBInstance } from '@duckdb/node-api';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseRowCount } from '../../../coordinator/synthesize/synthesis-options.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { median } from '../../../shared/base/arrays.js';
import {
  benchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
} from '../bench-header.js';
import { watched, type WatchedCommand } from '../resident-memory.js';
import { benchOptions } from '../bench-options.js';
import { listOf, roundsOption, rowsAsWritten, text, wholeNumber } from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';

/** Not the executable, which first checks the setup. */
const COMMAND = fileURLToPath(new URL('../../../infra/cli/main.js', import.meta.url));
const EXAMPLE = new URL('infra/examples/synthetic.yaml', packageRoot);
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const ExampleSchema = z.looseObject({ data: z.looseObject({}) });
const StoreSchema = z.looseObject({ taskCount: z.number(), rowCount: z.number() });

const options = benchOptions(import.meta.url, {
  rows: { value: rowsAsWritten, default: '10M', about: 'rows of the log' },
  memory: {
    value: listOf(wholeNumber()),
    default: '2048,1024',
    about: 'bounds of memory in MiB, with commas between them',
  },
  rounds: roundsOption('3'),
  folder: { value: text, default: tmpdir(), about: 'folder of what the bench makes meanwhile' },
  plain: {
    value: text,
    about: 'the log that this process sorts by DuckDB alone; the bench starts itself with it',
  },
});
const rowCount = parseRowCount(options.rows)!;

const DUCKDB_MEMORY_MIB = 2048;
const DUCKDB_STAGE = 'DuckDB alone';

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
  const { output, ...figures } = await watched(words);
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
  const stages = [await stageOf('synthesize', null, [COMMAND, 'synthesize', ...world], logSize)];
  for (let round = 0; round < options.rounds; round += 1) {
    for (const memoryMiBMax of options.memory) {
      const config = join(folder, `run-${memoryMiBMax}.yaml`);
      writeFileSync(config, configText(folder, memoryMiBMax));
      rmSync(join(folder, `store-${memoryMiBMax}`), { recursive: true, force: true });
      const words = [COMMAND, 'prepare', config, '--format', 'json'];
      stages.push(await stageOf('prepare', memoryMiBMax, words, storeDetail));
    }
    const words = [fileURLToPath(import.meta.url), '--plain', log];
    stages.push(await stageOf(DUCKDB_STAGE, DUCKDB_MEMORY_MIB, words, () => 'sorted Parquet'));
  }
  return stages;
}

async function sortByDuckDb(log: string): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', {
    memory_limit: `${DUCKDB_MEMORY_MIB}MiB`,
    temp_directory: `${log}.spill`,
  });
  const connection = await instance.connect();
  await connection.run(
    `COPY (SELECT * FROM read_csv('${log}') ORDER BY adgroup, time) TO '${log}.parquet' (FORMAT parquet)`,
  );
  connection.closeSync();
  instance.closeSync();
}

/** Medians over the rounds of one stage, and how many times the medians of plain DuckDB they are. */
function medians(stages: readonly Stage[]): (string | number)[][] {
  const rounds = (stage: string, memoryMiBMax: number | null): Stage[] =>
    stages.filter((other) => other.stage === stage && other.memoryMiBMax === memoryMiBMax);
  const of = (some: readonly Stage[], name: 'seconds' | 'cpuSeconds'): number =>
    median(some.map((stage) => stage[name]));
  const plain = rounds(DUCKDB_STAGE, DUCKDB_MEMORY_MIB);
  return options.memory.map((memory) => {
    const ours = rounds('prepare', memory);
    return [
      memory,
      ...(['seconds', 'cpuSeconds'] as const).flatMap((name) => [
        of(ours, name).toFixed(1),
        of(plain, name).toFixed(1),
        (of(ours, name) / of(plain, name)).toFixed(2),
      ]),
    ];
  });
}

function report(header: ReturnType<typeof benchHeader>, stages: readonly Stage[]): string {
  return [
    '# From a configuration to a task store',
    '',
    `${circumstances(header)} ${grouped(rowCount)} rows of infra/examples/synthetic.yaml; medians of ${options.rounds} interleaved rounds. DuckDB alone reads the log,`,
    'sorts it by adgroup and time and writes Parquet. Memory is the largest sum over the processes of a command, and the mark of its largest process.',
    '',
    ...markdownTable(
      [
        'data.memoryMiBMax',
        'prepare s',
        'DuckDB s',
        'ratio',
        'prepare CPU s',
        'DuckDB CPU s',
        'ratio',
      ],
      medians(stages),
    ),
    '',
    'Every run:',
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

async function measure(): Promise<void> {
  const header = benchHeader();
  const folder = scratchFolder('log-to-store', options.folder);
  const stages = await stagesIn(folder);
  const text = report(header, stages);
  writeResult(RESULTS, 'log-to-store', { ...header, rows: rowCount, stages }, text);
}

await (options.plain === undefined ? measure() : sortByDuckDb(options.plain));
