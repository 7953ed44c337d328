/**
 * `npm run simulate:seeds` simulates 10,000 clusters, and plants each mutant where its recorded seed finds it.
 *
 *   npm run simulate:seeds -- --seeds 0..999               other seeds
 *   npm run simulate:seeds -- --minutes 8                   stops after a while; the same command goes on
 *   npm run simulate:seeds -- --record infra/results/simulation.md
 *
 * Exits 1 when an invariant is violated; the shrunk faults and the command that repeats them are printed.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { reportOf, shrunk, simulate } from '../../infra/simulation/simulate.js';
import { systemClock } from '../../shared/base/clock.js';
import { benchHeader, folderOfCommit, grouped, markdownTable } from '../bench/bench-header.js';
import { benchOptions } from '../bench/bench-options.js';
import { amount, anySeed, listOf, text } from '../bench/option-values.js';
import { foundMutants } from './planted-mutants.js';

const WORKERS = 3;
const CHUNK_SEED_COUNT = 50;
const MS_PER_MINUTE = 60_000;

const ChunkSchema = z.strictObject({
  seedCount: z.number(),
  eventCount: z.number(),
  virtualMs: z.number(),
  undisturbedCount: z.number(),
  faultCounts: z.record(z.string(), z.number()),
  violations: z.array(z.string()),
});
type Chunk = z.infer<typeof ChunkSchema>;

const EXPECTED_SEEDS = 'expected the first and the last seed, as in 0..999';
const seedRange = listOf(anySeed, '..').pipe(
  z
    .tuple([z.number(), z.number()], EXPECTED_SEEDS)
    .refine(([from, to]) => from <= to, EXPECTED_SEEDS),
);
const options = benchOptions(import.meta.url, {
  seeds: { value: seedRange, default: '0..9999', about: 'the first and the last seed' },
  minutes: { value: amount(), default: '600', about: 'begins no further seeds after this time' },
  folder: { value: text, about: 'keeps what is done; by default one of this commit' },
  record: { value: text, about: 'file for the page' },
});
const [first, last] = options.seeds;
const header = benchHeader();
const folder = options.folder ?? folderOfCommit('simulation', header);
const endMs = systemClock.monotonicMs() + options.minutes * MS_PER_MINUTE;

mkdirSync(folder, { recursive: true });
const chunks: Chunk[] = [];
for (let start = first; start <= last; start += CHUNK_SEED_COUNT) {
  if (systemClock.monotonicMs() > endMs) break;
  const end = Math.min(start + CHUNK_SEED_COUNT - 1, last);
  chunks.push(await keptChunk(start, end));
  process.stderr.write(`seeds to ${grouped(end)}\n`);
}

const violations = chunks.flatMap((chunk) => chunk.violations);
if (options.record !== undefined) writeFileSync(options.record, await page());
process.exitCode = violations.length === 0 ? 0 : 1;

async function keptChunk(start: number, end: number): Promise<Chunk> {
  const path = join(folder, `seeds-${start}-${end}.json`);
  if (existsSync(path)) return ChunkSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  const chunk = await simulatedChunk(start, end);
  writeFileSync(path, JSON.stringify(chunk));
  return chunk;
}

async function simulatedChunk(start: number, end: number): Promise<Chunk> {
  const chunk: Chunk = {
    ...{ seedCount: 0, eventCount: 0, virtualMs: 0, undisturbedCount: 0 },
    ...{ faultCounts: {}, violations: [] },
  };
  for (let seed = start; seed <= end; seed += 1) {
    const result = await simulate({ seed, workers: WORKERS });
    chunk.seedCount += 1;
    chunk.eventCount += result.eventCount;
    chunk.virtualMs += result.virtualMs;
    if (result.faults.length === 0) chunk.undisturbedCount += 1;
    for (const { kind } of result.faults)
      chunk.faultCounts[kind] = (chunk.faultCounts[kind] ?? 0) + 1;
    if (result.violation === null) continue;
    const report = reportOf(await shrunk(result));
    chunk.violations.push(report);
    console.log(report);
  }
  return chunk;
}

async function page(): Promise<string> {
  const sum = (of: (chunk: Chunk) => number): number => chunks.reduce((all, c) => all + of(c), 0);
  const counts = new Map<string, number>();
  for (const { faultCounts } of chunks)
    for (const [kind, count] of Object.entries(faultCounts))
      counts.set(kind, (counts.get(kind) ?? 0) + count);
  const mutants = await foundMutants('recorded');
  return [
    '# Simulated clusters',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}. ${WORKERS} workers.`,
    '',
    `${grouped(sum((c) => c.seedCount))} seeds from ${first} on, ${grouped(sum((c) => c.undisturbedCount))} of them without a fault: ` +
      `${grouped(sum((c) => c.eventCount))} events in ${grouped(Math.round(sum((c) => c.virtualMs) / 3_600_000))} hours of virtual time. ` +
      `**${violations.length} violations** of an invariant of decision 0029.`,
    '',
    ...markdownTable(
      ['fault', 'times'],
      [...counts]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([kind, count]) => [kind, grouped(count)]),
    ),
    '',
    'Planted faults of the code, each with the first seed that finds it:',
    '',
    ...markdownTable(
      ['planted fault', 'seed', 'invariant that is violated'],
      mutants.map(({ name, seed, invariant }) => [name, seed, invariant ?? 'none']),
    ),
    '',
    ...violations.flatMap((report) => ['```', report, '```', '']),
  ].join('\n');
}
