/**
 * Speed and memory of prepare when it turns N rows of CSV into a task store.
 *
 *   npm run bench:prepare -- --rows 1000000 --tasks 50000 --result result.json
 *
 * The log has a text, an integer and a bag feature, two numbers, a time and a label, with its tasks
 * in random order. Peak memory is the resident high-water mark of the process (VmHWM). DuckDB
 * writes the log beforehand in a separate process, so that this memory is excluded.
 */

import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DuckDBInstance } from '@duckdb/node-api';
import { prepareTaskStore } from '../../coordinator/prepare/prepare.js';
import { systemClock } from '../../shared/base/clock.js';
import { RunConfigSchema } from '../../shared/config/run-config.js';
import { benchOptions } from './options/bench-options.js';
import { text, wholeNumber } from './options/option-values.js';

const options = benchOptions(import.meta.url, {
  rows: { value: wholeNumber(), default: '1000000', about: 'rows of the log' },
  tasks: { value: wholeNumber(), default: '50000', about: 'tasks of the log' },
  result: { value: text, about: 'file of the record; named for the rows if absent' },
  'write-log-to': { value: text, about: 'set by the bench itself, for a process of its own' },
});
const { rows: rowCount, tasks: taskCount, 'write-log-to': writeLogTo } = options;

async function writeLog(path: string): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  const draw = (name: string): string => `(md5_number_lower('${name}' || i) % 1000000007)`;
  await connection.run(
    `COPY (SELECT 'adgroup-' || ${draw('task')} % ${taskCount} AS adgroup,
        'site-' || CAST(floor(20000 * pow(${draw('site')} / 1000000007.0, 3)) AS INTEGER) AS site,
        ${draw('user')} % 100000 AS userId,
        'tag' || ${draw('a')} % 50 || '|tag' || ${draw('b')} % 50 AS tags,
        ${draw('price')} / 1e7 AS price, ${draw('age')} % 90 AS age,
        1600000000 + i AS at, CASE WHEN ${draw('click')} % 20 = 0 THEN 1 ELSE 0 END AS clicked
      FROM range(${rowCount}) r(i)) TO '${path}' (FORMAT csv, HEADER)`,
  );
  connection.closeSync();
  instance.closeSync();
}

async function measure(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'qianmo-bench-'));
  try {
    const log = join(folder, 'log.csv');
    const sizes = ['--rows', String(rowCount), '--tasks', String(taskCount)];
    const module = fileURLToPath(import.meta.url);
    execFileSync(process.execPath, [module, ...sizes, '--write-log-to', log]);
    const config = RunConfigSchema.parse({
      run: 'prepare-bench',
      seed: 1,
      output: join(folder, 'output'),
      data: {
        logs: log,
        store: join(folder, 'store'),
        task: 'adgroup',
        label: { column: 'clicked' },
        time: 'at',
        rowSplit: { by: 'time' },
        features: [
          { name: 'site', kind: 'category', countMin: 2 },
          { name: 'userId', kind: 'category', hashBuckets: 65536 },
          { name: 'tags', kind: 'bag', lengthMax: 4 },
          { name: 'price', kind: 'number', scale: 'log-standard' },
          { name: 'age', kind: 'number' },
        ],
      },
    });
    const startedMs = systemClock.monotonicMs();
    const stages: { stage: string; atSeconds: number }[] = [];
    const secondsNow = (): number => Math.round((systemClock.monotonicMs() - startedMs) / 10) / 100;
    const manifest = await prepareTaskStore(config, {
      clock: systemClock,
      sink: (event) => {
        if (event.kind === 'progress' && stages.at(-1)?.stage !== event.stage)
          stages.push({ stage: event.stage, atSeconds: secondsNow() });
      },
      signal: new AbortController().signal,
      objectStoreOf: () => {
        throw new Error('the bench is local');
      },
      temporaryFolder: folder,
    });
    const seconds = secondsNow();
    const peakKiB = /VmHWM:\s+(\d+)/.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
    const result = {
      rows: rowCount,
      tasks: taskCount,
      logMiB: Math.round((await stat(log)).size / 2 ** 20),
      rowsInStore: manifest.rowCount,
      storeMiB: Math.round(manifest.files.reduce((sum, f) => sum + f.byteCount, 0) / 2 ** 20),
      memoryMiBMax: config.data.memoryMiBMax,
      seconds,
      rowsPerSecond: Math.round(rowCount / seconds),
      peakResidentMiB: Math.round(Number(peakKiB) / 1024),
      stages,
      machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism() },
      node: process.version,
      commit: execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
      date: new Date(systemClock.epochMs()).toISOString().slice(0, 10),
    };
    const json = `${JSON.stringify(result, null, 2)}\n`;
    process.stdout.write(json);
    const target = options.result ?? `infra/results/prepare-${rowCount}.json`;
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, json);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await (writeLogTo === undefined ? measure() : writeLog(writeLogTo));
