/**
 * The write speed of `synthesize`, compared with the speed of the disk. Each case runs in a
 * separate process, so that its memory is measured separately. Writes
 * `infra/results/synthesize.json`.
 *
 *   npm run bench:synthesize -- --rows 1M,10M
 */

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseRowCount } from '../../coordinator/synthesize/row-count.js';
import { LOG_FORMATS, type LogFormat } from '../../coordinator/synthesize/synthesis.js';
import { synthesize } from '../../coordinator/synthesize/synthesize.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { systemClock } from '../../shared/base/clock.js';
import { benchOptions } from './options/bench-options.js';
import { listOf, rowsAsWritten, anySeed, text } from './options/option-values.js';

const MEBIBYTE = 1024 * 1024;
const DISK_PROBE_MIB = 512;

const options = benchOptions(import.meta.url, {
  rows: {
    value: listOf(rowsAsWritten),
    default: '1M,10M',
    about: 'rows of the logs, with commas between them',
  },
  seed: { value: anySeed, default: '1', about: 'seed of what is drawn' },
  folder: { value: text, default: tmpdir(), about: 'folder of what the bench makes meanwhile' },
  out: {
    value: text,
    default: new URL('infra/results/synthesize.json', packageRoot).pathname,
    about: 'file of the record',
  },
  case: {
    value: text,
    about: 'set by the script itself: one case, as `rows:format:threads:path`',
  },
});

if (options.case !== undefined) await runCase(options.case);
else runAll();

async function runCase(text: string): Promise<void> {
  const [rows = '', formatName = '', threads = '', ...path] = text.split(':');
  const format = LOG_FORMATS.find((name) => name === formatName);
  if (format === undefined) throw new Error(`no format ${formatName}`);
  const report = await synthesize({
    rows: parseRowCount(rows),
    setting: 'strong',
    meanClickRate: 0.03,
    seed: options.seed,
    path: path.join(':'),
    format,
    clock: systemClock,
    sink: () => undefined,
    signal: new AbortController().signal,
    threadCount: Number(threads),
  });
  const { path: _path, worldPath: _worldPath, ...figures } = report;
  const residentMiBMax = Math.round(process.resourceUsage().maxRSS / 1024);
  process.stdout.write(JSON.stringify({ ...figures, residentMiBMax }));
}

function runAll(): void {
  const folder = mkdtempSync(join(options.folder, 'qianmo-synthesize-bench-'));
  try {
    const cases = options.rows.flatMap((rows) => casesOf(rows));
    const results = cases.map(({ rows, format, threads }) => {
      const path = join(folder, `log.${format}`);
      const word = `${rows}:${format}:${threads}:${path}`;
      const script = fileURLToPath(import.meta.url);
      const words = [script, '--case', word, '--seed', String(options.seed)];
      const output = execFileSync(process.execPath, words, { encoding: 'utf8' });
      const figures: unknown = JSON.parse(output);
      rmSync(path);
      process.stderr.write(`${rows} ${format}, threads ${threads}: ${output}\n`);
      return { rows, format, threads, loadBefore: loadavg()[0], figures };
    });
    const record = { ...header(), diskMiBPerSecond: diskSpeed(folder), results };
    mkdirSync(new URL('infra/results/', packageRoot), { recursive: true });
    writeFileSync(options.out, `${JSON.stringify(record, null, 1)}\n`);
    process.stdout.write(`written to ${options.out}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function casesOf(rows: string): { rows: string; format: LogFormat; threads: number }[] {
  const csv = [1, cpus().length].map((threads) => ({ rows, format: 'csv' as const, threads }));
  const others = (['csv.gz', 'parquet'] as const).map((format) => ({
    rows,
    format,
    threads: cpus().length,
  }));
  return [...csv, ...others];
}

/** Plain sequential writing, with the final flush and without. */
function diskSpeed(folder: string): { flushed: number; buffered: number } {
  const path = join(folder, 'probe');
  const block = Buffer.alloc(4 * MEBIBYTE, 'qianmo');
  const file = openSync(path, 'w');
  const startMs = systemClock.monotonicMs();
  for (let written = 0; written < DISK_PROBE_MIB; written += 4) writeSync(file, block);
  const bufferedMs = systemClock.monotonicMs() - startMs;
  fsyncSync(file);
  const flushedMs = systemClock.monotonicMs() - startMs;
  closeSync(file);
  rmSync(path);
  const speed = (ms: number): number => Math.round((DISK_PROBE_MIB / ms) * 1000);
  return { flushed: speed(flushedMs), buffered: speed(bufferedMs) };
}

function header(): Record<string, unknown> {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  return {
    commit,
    date: new Date(systemClock.epochMs()).toISOString().slice(0, 10),
    machine: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}`,
  };
}
