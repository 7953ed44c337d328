import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseRowCount } from '../../../coordinator/synthesize/synthesis-options.js';
import { type SynthesisReport, synthesize } from '../../../coordinator/synthesize/synthesize.js';
import { buildWorld, LOG_START_SECONDS, zipfSizes } from '../../../coordinator/synthesize/synthetic-world.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { withDuckDb } from '../../fixtures/duckdb-for-test.js';
import { failureOf } from '../../fixtures/failures.js';

type Options = Parameters<typeof synthesize>[0];
type Caller = Parameters<typeof synthesize>[1];

function synthesizeSmall(
  options: Partial<Options> = {},
  caller: Partial<Caller> = {},
): Promise<SynthesisReport> {
  const world = { rows: 20_000, setting: 'strong', clickRate: 0.1, seed: 5 } as const;
  const { signal } = new AbortController();
  return synthesize(
    { ...world, out: 'never-written.csv', ...options },
    { clock: systemClock, sink: () => undefined, signal, ...caller },
  );
}

/** Runs with a fresh folder that is removed afterwards. */
async function withFolder<Result>(run: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'qianmo-synthesize-'));
  try {
    return await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface SyntheticLog {
  readonly bytes: Buffer;
  readonly columns: Readonly<Record<string, Float64Array>>;
  readonly report: SynthesisReport;
}

function syntheticLog(options: Partial<Options> = {}): Promise<SyntheticLog> {
  return withFolder(async (folder) => {
    const report = await synthesizeSmall({ ...options, out: join(folder, 'log.csv') });
    const bytes = await readFile(report.path);
    return { bytes, columns: parseNumbers(bytes.toString('latin1')), report };
  });
}

function parseNumbers(csv: string): Record<string, Float64Array> {
  const [header = '', ...lines] = csv.trimEnd().split('\n');
  const names = header.split(',');
  const columns = Object.fromEntries(names.map((name) => [name, new Float64Array(lines.length)]));
  for (const [row, line] of lines.entries()) {
    const fields = line.split(',');
    if (fields.length !== names.length) throw new Error(`row ${row} has ${fields.length} fields`);
    for (const [index, name] of names.entries()) columns[name]![row] = Number(fields[index]);
  }
  return columns;
}

const mean = (values: Float64Array): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

describe('a synthetic log', () => {
  const rows = 50_000;
  const adgroupCount = 1000;
  let log: SyntheticLog;
  beforeAll(async () => {
    log = await syntheticLog({ rows, adgroups: adgroupCount, clickRate: 0.05 });
  });
  const column = (name: string): Float64Array => log.columns[name]!;

  it('has the requested mean click rate, within sampling error', () => {
    const truth = mean(column('p_true'));
    expect(truth).toBeCloseTo(log.report.meanTrueClickRate, 9);
    expect(Math.abs(truth - 0.05)).toBeLessThan(0.0005);
    const deviation = Math.sqrt((0.05 * 0.95) / rows);
    expect(Math.abs(mean(column('click')) - truth)).toBeLessThan(4 * deviation);
  });

  it('draws clicks from p_true in every bin of p_true', () => {
    const truth = column('p_true');
    const clicks = column('click');
    const edges = [0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 1];
    for (let bin = 1; bin < edges.length; bin += 1) {
      let expected = 0;
      let variance = 0;
      let found = 0;
      for (let row = 0; row < rows; row += 1) {
        const p = truth[row]!;
        if (p < edges[bin - 1]! || p >= edges[bin]!) continue;
        expected += p;
        variance += p * (1 - p);
        found += clicks[row]!;
      }
      expect(expected).toBeGreaterThan(1);
      expect(Math.abs(found - expected)).toBeLessThan(4 * Math.sqrt(variance) + 1);
    }
  });

  it('gives few adgroups very many impressions and most adgroups very few, never below five', () => {
    const sizes = new Float64Array(adgroupCount);
    for (const adgroup of column('adgroup')) sizes[adgroup] = sizes[adgroup]! + 1;
    const sorted = Array.from(sizes).sort((a, b) => b - a);
    expect(sorted.at(-1)).toBeGreaterThanOrEqual(5);
    expect(sorted[0]).toBeLessThanOrEqual(0.02 * rows + 1);
    expect(sorted[adgroupCount / 2]).toBeLessThan(30);
    // Between two ranks that no bound affects, sizes fall with the power 1.1.
    expect(Math.log(sorted[19]! / sorted[199]!) / Math.log(10)).toBeCloseTo(1.1, 1);
  });

  it('makes 20 % of the adgroups first appear in the last three days', () => {
    const first = new Float64Array(adgroupCount).fill(Infinity);
    const times = column('time');
    for (const [row, adgroup] of column('adgroup').entries())
      first[adgroup] = Math.min(first[adgroup]!, times[row]!);
    const late = first.filter((time) => time >= LOG_START_SECONDS + 11 * 86400).length;
    expect(late).toBe(adgroupCount * 0.2);
  });
});

/** p_true of the rows of two adgroups with equal attributes differs only by their own deviations. */
  it('homogeneous adgroups follow from their attributes, strong ones do not', () => {
    const options = { rows: 100_000, clickRate: 0.1, seed: 3, adgroups: 5000 };
    const spreadOf = (setting: 'homogeneous' | 'moderate' | 'strong'): number => {
      const { adgroups } = buildWorld({ ...options, setting });
      // Latents of two adgroups with the same category and brand differ only by their own
      // deviations.
      const firstOfBrand = new Map<number, number>();
      let spread = 0;
      let pairs = 0;
      for (let adgroup = 0; adgroup < adgroups.count; adgroup += 1) {
        const brand = adgroups.brands[adgroup]!;
        const other = firstOfBrand.get(brand);
        if (other === undefined) firstOfBrand.set(brand, adgroup);
        else {
          spread += Math.abs(adgroups.latents[adgroup * 8]! - adgroups.latents[other * 8]!);
          pairs += 1;
        }
      }
      expect(pairs).toBeGreaterThan(100);
      return spread / pairs;
    };
    expect(spreadOf('homogeneous')).toBe(0);
    expect(spreadOf('strong') / spreadOf('moderate')).toBeCloseTo(2, 3);
  });

// Seen to fail: tastes of the next user's crowd, levels that no row has.
it('crowds move the logits of their users, by level and by adgroup, and nothing else', async () => {
  const of = { rows: 20_000, setting: 'homogeneous', clickRate: 0.1, adgroups: 40 } as const;
  const logOf = async (crowdDeviation?: number) =>
    (await syntheticLog(crowdDeviation === undefined ? of : { ...of, crowds: 5, crowdDeviation }))
      .columns;
  const [without, still, moved] = [await logOf(), await logOf(0), await logOf(0.8)];
  expect(without['crowd']).toBeUndefined();
  const { crowd, ...others } = still;
  expect(others).toEqual(without);
  expect([...new Set(crowd)].sort()).toEqual([0, 1, 2, 3, 4]);
  expect(moved['user']).toEqual(still['user']);
  const logit = (p: number): number => Math.log(p / (1 - p));
  const moves = Array.from(crowd!, (_, row) => logit(moved['p_true']![row]!) - logit(still['p_true']![row]!));
  // Rows of one crowd and one adgroup move alike.
  const byPair = new Map<string, number[]>();
  for (const [row, move] of moves.entries()) {
    const pair = `${crowd![row]} ${still['adgroup']![row]}`;
    byPair.set(pair, [...(byPair.get(pair) ?? []), move]);
  }
  const spreadOf = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);
  const pairs = [...byPair.values()].filter(({ length }) => length > 5);
  for (const values of pairs) expect(spreadOf(values)).toBeLessThan(0.01);
  const [levels, tastes] = [0, 4].map((of) =>
    [...byPair].filter(([pair]) => pair.startsWith(`${of} `)).map(([, [move = NaN]]) => move),
  );
  expect(spreadOf(levels!)).toBeGreaterThan(0.3);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  expect(Math.abs(mean(levels!) - mean(tastes!))).toBeGreaterThan(0.1);
});

describe('reproduction', () => {
  const few = { rows: 5_000 };
  it('gives the same bytes for the same seed and different bytes for another', async () => {
    const first = await syntheticLog(few);
    const again = await syntheticLog(few);
    const other = await syntheticLog({ ...few, seed: 6 });
    expect(again.bytes.equals(first.bytes)).toBe(true);
    expect(other.bytes.equals(first.bytes)).toBe(false);
  });

  it('writes gzip with the same CSV, and Parquet with the same rows', async () => {
    await withFolder(async (folder) => {
      const csv = await syntheticLog(few);
      const gzip = join(folder, 'log.csv.gz');
      await synthesizeSmall({ ...few, out: gzip });
      expect(gunzipSync(await readFile(gzip)).equals(csv.bytes)).toBe(true);

      const parquet = join(folder, 'log.parquet');
      await synthesizeSmall({ ...few, out: parquet });
      await withDuckDb(async (connection) => {
        for (const [column, values] of Object.entries(csv.columns)) {
          const reader = await connection.runAndReadAll(
            `SELECT "${column}"::DOUBLE AS value FROM '${parquet}'`,
          );
          const found = Float64Array.from(reader.getColumns()[0]!, Number);
          expect(Buffer.from(found.buffer).equals(Buffer.from(values.buffer)), column).toBe(true);
        }
        const counted = await connection.runAndReadAll(`SELECT count(*) FROM read_csv('${gzip}')`);
        expect(Number(counted.getColumns()[0]![0])).toBe(few.rows);
      });
      expect((await readdir(folder)).sort()).toEqual([
        'log.csv.gz',
        'log.csv.gz.world.json',
        'log.parquet',
        'log.parquet.world.json',
      ]);
    });
  });
});

describe('failures', () => {
  it('stops on request, keeps the older log and leaves nothing unfinished', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'log.csv');
      await writeFile(path, 'older');
      const stop = new AbortController();
      const events: RunEvent[] = [];
      const sink = (event: RunEvent): void => {
        events.push(event);
        stop.abort();
      };
      const options = { rows: 20_000, out: path };
      const error = await failureOf(synthesizeSmall(options, { signal: stop.signal, sink }));
      expect(error).toMatchObject({
        kind: 'interrupted',
        report: {
          what: expect.stringContaining('stopped before the log was complete') as string,
          ...{ where: path, cure: expect.stringContaining('same command again') as string },
        },
      });
      expect(events).toHaveLength(1);
      expect(events[0]).toMatchObject({ kind: 'progress', total: 20_000 });
      expect(await readdir(folder)).toEqual(['log.csv']);
      expect(await readFile(path, 'utf8')).toBe('older');
    });
  });

  it('refuses fewer rows than adgroups need', async () => {
    const error = await failureOf(synthesizeSmall({ rows: 100, adgroups: 21 }));
    expect(error.kind).toBe('usage');
    expect(error.report.what).toContain('too few rows');
  });
});

it('sizes of adgroups sum to the rows, fall with the rank and respect their bounds', () => {
  for (const [adgroupCount, rows] of [
    [1, 5],
    [3, 700],
    [60, 4_000],
    [400, 102_000],
  ] as const) {
    const sizes = zipfSizes(rows, adgroupCount, {
      ...{ exponent: 1.1, impressionsMin: 5, shareMax: 0.02 },
    });
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(rows);
    expect([...sizes].sort((a, b) => b - a)).toEqual([...sizes]);
    expect(sizes.at(-1)).toBeGreaterThanOrEqual(5);
    const shareMax = Math.max(0.02, Math.min(1, 4 / adgroupCount));
    expect(sizes[0]).toBeLessThanOrEqual(Math.ceil(rows * shareMax));
  }
});

it.each([
  ['760k', 760_000],
  ['1.1M', 1_100_000],
  ['0.5k', 500],
  ['2B', 2_000_000_000],
])('reads %s as a number of rows', (text, rows) => {
  expect(parseRowCount(text)).toBe(rows);
});

it.each(['', '0', '-5', '1.5', '10MB', '1e6', '11G', 'NaN'])('refuses %j rows', (text) => {
  expect(parseRowCount(text)).toBeNull();
});
