/**
 * The dashboard over 1,000 finished runs of 10,000 outer steps and 10,000 simulated workers: how long its pages take,
 * how much memory it holds, and how much of Redis it takes while somebody watches. Writes `infra/results/dashboard.md`.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, link, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { startEmbeddedRedis } from '#services/embedded-redis.mjs';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { writeRecord } from '../../fixtures/written-record.js';
import { benchHeader, grouped, markdownTable } from '../bench-header.js';
import { benchOptions } from '../options/bench-options.js';

benchOptions(import.meta.url, {});

const RUN_COUNT = 1_000;
const OUTER_STEPS = 10_000;
const WORKER_COUNT = 10_000;
const PREFIX = '{bench}';
/** Workers say that they live at least this often; the bench says it for them. */
const BEAT_INTERVAL_MS = 2_000;
const WATCH_MS = 20_000;
/** Runs whose pages are opened one after another. */
const OPENED_RUNS = 30;

const folder = await mkdtemp(join(tmpdir(), 'qianmo-dashboard-bench-'));
const redis = await startEmbeddedRedis({ dataDir: folder, password: '' });
const client = new Redis(redis.url);
const ended = new AbortController();
const header = benchHeader();
const beating = keepWorkersAlive();
await writeRuns();
const service = spawn(
  process.execPath,
  [
    new URL('dist/infra/cli/main.js', packageRoot).pathname,
    ...['dashboard', '--runs', join(folder, 'runs'), '--redis', redis.url, '--prefix', PREFIX],
    ...['--port', '0', '--format', 'json'],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
try {
  const [line] = (await once(service.stdout.setEncoding('utf8'), 'data')) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const rows = await measuredPages(url);
  const watching = await loadOfRedis(url);
  await writeFile(
    new URL('infra/results/dashboard.md', packageRoot),
    report(rows, watching, await residentMiB(service.pid ?? 0)),
  );
} finally {
  service.kill('SIGTERM');
  ended.abort();
  await beating;
  client.disconnect();
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
}

/** One record is written; the others are links to it, so that they differ by their places alone. */
async function writeRuns(): Promise<void> {
  const first = join(folder, 'runs', 'run-0000');
  await writeRecord(first, { run: 'bench', outerSteps: OUTER_STEPS });
  const segment = 'events/events-000001.ndjson';
  for (let index = 1; index < RUN_COUNT; index += 1) {
    const output = join(folder, 'runs', `run-${String(index).padStart(4, '0')}`);
    await mkdir(join(output, 'events'), { recursive: true });
    await link(join(first, segment), join(output, segment)).catch(() =>
      copyFile(join(first, segment), join(output, segment)),
    );
  }
}

/** Writes what workers write (`shared/queue/redis-registry.ts`), in one call for all. */
async function keepWorkersAlive(): Promise<void> {
  const records: string[] = [];
  for (let index = 0; index < WORKER_COUNT; index += 1) {
    const instance = `i${index}`;
    const device = index % 10 === 0 ? 'gpu' : 'cpu';
    const worker = { name: `worker-${index}`, instance, device, sinceMs: 1, jobId: null };
    records.push(instance, JSON.stringify(worker));
  }
  await client.hset(`${PREFIX}:workers`, ...records);
  while (!ended.signal.aborted) {
    const now = systemClock.epochMs();
    const beats = Array.from({ length: WORKER_COUNT }, (_, index) => [now, `i${index}`]).flat();
    await client.zadd(`${PREFIX}:workers:beats`, ...beats);
    await systemClock.sleep(BEAT_INTERVAL_MS, ended.signal);
  }
}

async function millisecondsOf(url: string): Promise<number> {
  const startMs = systemClock.monotonicMs();
  const answer = await fetch(url);
  const text = await answer.text();
  if (answer.status !== 200 || !text.includes('</html>')) throw new Error(`${url}: ${text}`);
  return systemClock.monotonicMs() - startMs;
}

async function measuredPages(url: string): Promise<(readonly [string, number, number])[]> {
  const measured = async (
    name: string,
    path: string,
  ): Promise<readonly [string, number, number]> => {
    const first = await millisecondsOf(`${url}${path}`);
    return [name, first, await millisecondsOf(`${url}${path}`)];
  };
  const rows = [
    await measured('the list of runs, `/runs`', 'runs'),
    await measured('the last page of the list', 'runs?page=10'),
    await measured('the cluster, `/`', ''),
    await measured('a run, the first one that is opened', 'runs/run-0000'),
  ];
  const others: (readonly [string, number, number])[] = [];
  for (let index = 1; index <= OPENED_RUNS; index += 1)
    others.push(await measured('', `runs/run-${String(index).padStart(4, '0')}`));
  const medianOf = (values: number[]): number =>
    values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  rows.push([
    `a run, the median of ${OPENED_RUNS} others`,
    medianOf(others.map(([, first]) => first)),
    medianOf(others.map(([, , second]) => second)),
  ]);
  return rows;
}

interface RedisLoad {
  /** Share of one core. */
  readonly share: number;
  readonly commandsPerSecond: number;
  readonly repliedBytesPerSecond: number;
}

interface Watching {
  readonly withTab: RedisLoad;
  readonly without: RedisLoad;
}

/** The load of Redis with a tab that shows the cluster, and without one. */
async function loadOfRedis(url: string): Promise<Watching> {
  const without = await redisLoad();
  const tab = new AbortController();
  const stream = await fetch(`${url}live?page=${encodeURIComponent('/')}`, { signal: tab.signal });
  void stream.text().catch(() => undefined);
  const withTab = await redisLoad();
  tab.abort();
  return { withTab, without };
}

async function redisLoad(): Promise<RedisLoad> {
  const totals = async (): Promise<RedisLoad> => {
    const text = await client.info('everything');
    const of = (field: string): number =>
      Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(text)?.[1]);
    const calls = [...text.matchAll(/^cmdstat_.*?:calls=(\d+)/gm)];
    return {
      share: of('used_cpu_sys') + of('used_cpu_user'),
      commandsPerSecond: calls.reduce((sum, [, count]) => sum + Number(count), 0),
      repliedBytesPerSecond: of('total_net_output_bytes'),
    };
  };
  const [before, startMs] = [await totals(), systemClock.monotonicMs()];
  await systemClock.sleep(WATCH_MS);
  const [after, seconds] = [await totals(), (systemClock.monotonicMs() - startMs) / 1_000];
  const rateOf = (part: keyof RedisLoad): number => (after[part] - before[part]) / seconds;
  return {
    share: rateOf('share'),
    commandsPerSecond: rateOf('commandsPerSecond'),
    repliedBytesPerSecond: rateOf('repliedBytesPerSecond'),
  };
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1_024);
}

function report(
  rows: readonly (readonly [string, number, number])[],
  { withTab, without }: Watching,
  memoryMiB: number,
): string {
  const share = (value: number): string => `${(value * 100).toFixed(2)} %`;
  return [
    '# The dashboard over many runs and workers',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}; load ${header.loadBefore} before. ` +
      `${grouped(RUN_COUNT)} finished runs of ${grouped(OUTER_STEPS)} outer steps, whose logs are links to one file, and ` +
      `${grouped(WORKER_COUNT)} workers that are entries in Redis. \`npm run bench:dashboard\``,
    '',
    ...markdownTable(
      ['page', 'first, ms', 'again, ms'],
      rows.map(([name, first, again]) => [name, first.toFixed(0), again.toFixed(0)]),
    ),
    '',
    `The dashboard's process held ${memoryMiB} MiB at most. Of one core, Redis took ${share(withTab.share)} while a tab showed the ` +
      `cluster, and ${share(without.share)} before, when the simulated workers alone wrote. The tab cost it ` +
      `${(withTab.commandsPerSecond - without.commandsPerSecond).toFixed(0)} commands and ` +
      `${((withTab.repliedBytesPerSecond - without.repliedBytesPerSecond) / 1_024).toFixed(0)} KiB of replies a second.`,
    '',
  ].join('\n');
}
