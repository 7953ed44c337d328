// A log whose columns are written in drawn forms: the proposed SQL reads each back as it was.
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { openDuckSession, type DuckSession } from '../../coordinator/logs/duckdb-session.js';
import { literal } from '../../coordinator/logs/sql.js';
import { proposeData, type ProposedData } from '../../coordinator/propose/propose-data.js';
import { at } from '../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { formatFailure, init, prepare, QianmoError } from '../../infra/library/index.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { parseConfig } from '../../shared/config/yaml-file.js';
import { withDuckDb } from '../fixtures/duckdb-for-test.js';
import { pick } from '../fixtures/odd-values.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';

const LOG_COUNT = 40;
const ROW_COUNT = 200;

interface CleanRow {
  readonly group: string;
  readonly isClicked: boolean;
  readonly price: number;
  readonly epochSeconds: number;
  readonly site: string;
}

type Written = (row: CleanRow, stream: RandomStream) => string;

/** `12345.67` with a sign between thousands and another before the cents. */
function grouped(value: number, thousands: string, decimal: string): string {
  const [whole = '', cents = ''] = value.toFixed(2).split('.');
  return `${whole.replace(/\B(?=(\d{3})+$)/g, thousands)}${decimal}${cents}`;
}

const pad = (value: number): string => String(value).padStart(2, '0');

function clockOf(epochSeconds: number): { year: string; date: [string, string]; clock: string } {
  const time = new Date(epochSeconds * 1000);
  return {
    year: String(time.getUTCFullYear()),
    date: [pad(time.getUTCDate()), pad(time.getUTCMonth() + 1)],
    clock: `${pad(time.getUTCHours())}:${pad(time.getUTCMinutes())}:${pad(time.getUTCSeconds())}`,
  };
}

const PRICES: readonly Written[] = [
  ({ price }) => price.toFixed(2),
  ({ price }) => grouped(price, '', ','),
  ({ price }) => grouped(price, '.', ','),
  ({ price }) => grouped(price, ',', '.'),
  ({ price }, stream) =>
    stream.below(3) === 0 ? `$${price.toFixed(2)}` : `${price.toFixed(2)} EUR`,
  ({ price }, stream) => (stream.below(20) === 0 ? 'n/a' : price.toFixed(2)),
];
const LABELS: readonly Written[] = [
  ({ isClicked }) => (isClicked ? '1' : '0'),
  ({ isClicked }) => (isClicked ? 'yes' : 'no'),
  ({ isClicked }, stream) => pick(stream, isClicked ? ['TRUE', 'true '] : ['False']),
  ({ isClicked }, stream) => (stream.below(30) === 0 ? '?' : isClicked ? 'Y' : 'n'),
  ({ isClicked }, stream) => pick(stream, isClicked ? ['1', '1', 'yes'] : ['0', '0', 'no']),
];
const TIMES: readonly Written[] = [
  ({ epochSeconds }) => new Date(epochSeconds * 1000).toISOString(),
  ({ epochSeconds }) => String(epochSeconds),
  ({ epochSeconds }) => String(epochSeconds * 1000),
  ({ epochSeconds }) => {
    const { year, date, clock } = clockOf(epochSeconds);
    return `${date.join('/')}/${year} ${clock}`;
  },
  ({ epochSeconds }) => {
    const { year, date, clock } = clockOf(epochSeconds);
    return `${[...date].reverse().join('.')}.${year} ${clock}`;
  },
];
const SITES: readonly Written[] = [
  ({ site }) => site,
  ({ site }, stream) => pick(stream, [site, site.toUpperCase(), ` ${site}`]),
];
const GROUPS: readonly Written[] = [
  ({ group }) => group,
  ({ group }, stream) => pick(stream, [group, group.toUpperCase()]),
  ({ group }, stream) => (stream.below(15) === 0 ? 'NULL' : group),
];
const NAMES = {
  group: ['ad group', 'campaign_id', 'AdSet', 'creative'],
  label: ['clicked', 'is_click', 'label'],
  time: ['shown at', 'event_time', 'ts'],
} as const;

interface Databases {
  readonly connection: DuckDBConnection;
  readonly session: DuckSession;
}

/** Rows, and the texts that say them in drawn forms, column by column. */
function drawLog(stream: RandomStream) {
  const rows = Array.from({ length: ROW_COUNT }, (_, row): CleanRow => ({
    group: `ag-${stream.below(12)}`,
    isClicked: stream.below(3) === 0,
    price: 1 + stream.below(2_000_000) / 100,
    epochSeconds: 1_790_000_000 + row * 9_973,
    site: `${pick(stream, ['news', 'sport', 'mail'])}.example`,
  }));
  const names = {
    group: pick(stream, NAMES.group),
    label: pick(stream, NAMES.label),
    time: pick(stream, NAMES.time),
  };
  const forms: readonly (readonly [string, Written])[] = [
    [names.group, pick(stream, GROUPS)],
    [names.label, pick(stream, LABELS)],
    [names.time, pick(stream, TIMES)],
    ['price', pick(stream, PRICES)],
    ['site', pick(stream, SITES)],
  ];
  const columns = forms.map(([name, write]) => ({
    ...{ name, type: null },
    values: rows.map((row) => write(row, stream)),
  }));
  return { rows, names, columns };
}

async function checkLog(stream: RandomStream, { connection, session }: Databases): Promise<void> {
  const { rows, names, columns } = drawLog(stream);
  const data = await proposeData(columns, {}, session);
  const table = rows.map(
    (_, row) => `(${columns.map(({ values }) => literal(at(values, row))).join(', ')})`,
  );
  const header = columns.map(({ name }) => `"${name}"`).join(', ');
  const read = async (sql: string): Promise<unknown[]> => {
    const query = `SELECT ${sql} FROM (VALUES ${table.join(', ')}) log(${header})`;
    return (await connection.runAndReadAll(query)).getRowsJson().map(([value]) => value);
  };
  const written = (name: string): readonly string[] =>
    columns.find((column) => column.name === name)?.values ?? [];
  const isKnown = (name: string, unknown: RegExp): readonly boolean[] =>
    written(name).map((text) => !unknown.test(text));
  const told = JSON.stringify(data);

  const hasGroup = isKnown(names.group, /^NULL$/);
  expect(
    (await read(`lower(${sqlOf(data.task.value)})`)).map(
      (value, row) => value ?? at(hasGroup, row),
    ),
    told,
  ).toEqual(rows.map(({ group }, row) => (at(hasGroup, row) ? group : false)));
  const hasLabel = isKnown(names.label, /^\?$/);
  expect(await read(`CAST(${labelSql(data)} AS BOOLEAN)`), told).toEqual(
    rows.map(({ isClicked }, row) => (at(hasLabel, row) ? isClicked : null)),
  );
  const time = data.time?.value;
  if (typeof time === 'object') {
    const seconds = `CASE WHEN typeof(${time.expression}) = 'TIMESTAMP' THEN epoch(TRY_CAST(CAST(${time.expression} AS VARCHAR) AS TIMESTAMP)) ELSE TRY_CAST(CAST(${time.expression} AS VARCHAR) AS DOUBLE) END`;
    expect(
      (await read(seconds)).map((value) => Math.round(Number(value))),
      told,
    ).toEqual(rows.map(({ epochSeconds }) => epochSeconds));
  } else expect(time, told).toBe(names.time);
  const hasPrice = isKnown('price', /^n\/a$/);
  expect(await read(`TRY_CAST(${featureSql(data, 'price')} AS DOUBLE)`), told).toEqual(
    rows.map(({ price }, row) => (at(hasPrice, row) ? price : null)),
  );
  expect(await read(featureSql(data, 'site')), told).toEqual(rows.map(({ site }) => site));
}

function featureSql({ features }: ProposedData, name: string): string {
  const feature = features.find(({ value }) => value.name === name)?.value;
  expect(feature?.kind).toBe(name === 'site' ? 'category' : 'number');
  return feature !== undefined && 'expression' in feature
    ? (feature.expression ?? `"${name}"`)
    : `"${name}"`;
}

function sqlOf(value: string | { readonly expression: string }): string {
  return typeof value === 'string' ? `"${value}"` : value.expression;
}

function labelSql({ label: { value } }: ProposedData): string {
  if ('column' in value) return `"${value.column}"`;
  if ('expression' in value) return value.expression;
  throw new Error(`counts or values: ${JSON.stringify(value)}`);
}

/** The cells of a log, its header first. */
type Cells = readonly (readonly string[])[];

function delimited(cells: Cells, separator = ';', end = '\n'): string {
  const quoted = (text: string): string =>
    /["\r\n;,|\t]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return cells.map((row) => `${row.map(quoted).join(separator)}${end}`).join('');
}

const withColumn = (cells: Cells, name: string, text: (row: number) => string): Cells =>
  cells.map((row, place) => [...row, place === 0 ? name : text(place)]);
const withTexts = (cells: Cells, column: number, text: (old: string) => string): Cells =>
  cells.map((row, place) =>
    row.map((old, index) => (place > 0 && index === column ? text(old) : old)),
  );
const objectsOf = ([names = [], ...rows]: Cells): object[] =>
  rows.map((row) => Object.fromEntries(names.map((name, place) => [name, row[place]])));

/** File names, contents, and the failure: null where there are a config and a store. */
const FILES: readonly (readonly [string, (cells: Cells) => string | Buffer, RegExp | null])[] = [
  ['log.csv', (cells) => delimited(cells), null],
  ['log.csv', (cells) => delimited(cells, ',', '\r\n'), null],
  ['log.csv', (cells) => delimited(cells, '|', '\r'), null],
  ['log.tsv', (cells) => delimited(cells, '\t'), null],
  ['log.csv', (cells) => `\ufeff${delimited(cells)}`, null],
  ['log.csv.xz', (cells) => execFileSync('xz', { input: delimited(cells) }), null],
  [
    'log.json',
    (cells) =>
      objectsOf(cells)
        .map((row) => JSON.stringify(row))
        .join('\n'),
    null,
  ],
  ['log.csv', (cells) => delimited(withColumn(cells, 'note', () => '')), null],
  ['log.csv', (cells) => delimited(withColumn(cells, '', String)), null],
  ['log.csv', (cells) => delimited(withColumn(cells, 'text', (row) => `a "b"\n${row % 3}`)), null],
  // An id that only clicks have.
  [
    'log.csv',
    (cells) =>
      delimited(
        withColumn(cells, 'order', (row) =>
          /^(1|y|yes|true *)$/i.test(at(at(cells, row), 1)) ? `o${row % 40}` : '',
        ),
      ),
    null,
  ],
  ['log.csv', (cells) => `${delimited(cells)}Total;;;;\n${'too;few\n'.repeat(9)}`, null],
  ['log.csv', (cells) => Buffer.from(`\ufeff${delimited(cells)}`, 'utf16le'), /in UTF-8: iconv/],
  ['log.csv', ([, ...rows]) => delimited(rows), /first line of a log is not its header/],
  ['log.csv', (cells) => `Report\nof May\n${delimited(cells)}`, /tail -n \+3/],
  ['log.csv', (cells) => delimited(withColumn(cells, 'site', String)), /same name.*rename/s],
  ['log.csv', (cells) => delimited(withTexts(cells, 0, () => 'all')), /--task COLUMN/],
  ['log.csv', (cells) => delimited(withTexts(cells, 1, () => 'no')), /is "no" in all rows/],
  ['log.csv', ([header = []]) => delimited([header]), /no rows/],
  ['log.json', (cells) => JSON.stringify(objectsOf(cells)), /no rows.*jq -c/s],
  ['log.csv.gz', (cells) => delimited(cells), /not a GZIP/],
  ['log.txt', (cells) => delimited(cells), /rename the file/],
];

test('a file in any format gives a store, or one failure that says what to do', async () => {
  const folder = await temporaryFolder();
  for (const [place, [file, write, failure]] of FILES.entries()) {
    const { columns, rows } = drawLog(randomStream(place, 'files'));
    const header = columns.map(({ name }) => name);
    const cells = [header, ...rows.map((_, row) => columns.map(({ values }) => at(values, row)))];
    const log = join(folder.path, file);
    await writeFile(log, write(cells));
    const found = await preparedFrom(log, folder.path).catch((error: unknown) => error);
    const told = `${place}: ${file}`;
    if (failure === null) {
      assert(!(found instanceof Error), `${told}: ${String(found)}`);
      const { taskCount, rowCount, rejectedRowCount } = z.looseObject(COUNTS).parse(found);
      expect(taskCount, told).toBe(12);
      expect(rowCount, told).toBeGreaterThan(ROW_COUNT * 0.8);
      expect(rejectedRowCount, told).toBeLessThan(ROW_COUNT * 0.2);
    } else {
      assert(found instanceof QianmoError, told);
      expect([1, 2], told).toContain(found.exitCode);
      expect(formatFailure(found), told).toMatch(failure);
      expect(found.report.cure, told).toBeDefined();
    }
  }
  await folder.remove();
});

const COUNTS = { taskCount: z.int(), rowCount: z.int(), rejectedRowCount: z.int() };

/** @returns the manifest of the store */
async function preparedFrom(log: string, folder: string): Promise<unknown> {
  const { text } = await init({ logs: [log], out: join(folder, 'run.yaml'), force: true });
  const config = parseConfig(RUN_CONFIG, text, 'run.yaml');
  const data = { ...config.data, store: join(folder, 'store') };
  return (await prepare({ config: { ...config, data, output: join(folder, 'output') } })).manifest;
}

test('each is read back', { timeout: 120_000 }, async () => {
  await withDuckDb(async (connection) => {
    const session = await openDuckSession(tmpdir(), 512, new AbortController().signal);
    for (let log = 0; log < LOG_COUNT; log += 1)
      await checkLog(randomStream(log, 'proposed forms'), { connection, session });
    session.close();
  });
});
