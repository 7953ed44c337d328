/** What `qianmo forget` leaves is, bit for bit, a system that never had the rows. */

import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test, vi } from 'vitest';
import { claimRun } from '../../../coordinator/dispatch/run-lease.js';
import { logsToRewrite } from '../../../coordinator/logs/forget-rows.js';
import { tracesIn } from '../../../coordinator/logs/traces.js';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { findLogFiles } from '../../../coordinator/logs/log-files.js';
import { feedbackLine, rankingLine } from '../../../shared/config/row-record.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { systemClock } from '../../../shared/base/clock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { smallLog } from '../../fixtures/commands/small-run.js';
import { feedbackOn, rowLogHead, settingsOf } from '../../fixtures/decision-input.js';
import { failureOf } from '../../fixtures/failures.js';
import { openedOnce } from '../../fixtures/opened.js';
import { withDuckDb } from '../../fixtures/duckdb-for-test.js';

const room = openedOnce(commandRoom);

/** A log of the room, without the rows of which a field is the id. */
const smallLogWithout = (id: string): string =>
  smallLog()
    .split('\n')
    .filter((line) => !line.split(',').includes(id))
    .join('\n');

/** Writes the config of a run whose logs lie in a folder of its own. */
async function runOf(name: string, logs: Readonly<Record<string, string | Uint8Array>>) {
  await mkdir(room.path(`${name}-logs`), { recursive: true });
  for (const [file, content] of Object.entries(logs))
    await room.write(`${name}-logs/${file}`, content);
  return room.config(name, ({ data }) => {
    Object.assign(data, { logs: `${name}-logs`, store: `${name}-store` });
  });
}

const logOf = (name: string, file: string): Promise<string> =>
  readFile(room.path(`${name}-logs/${file}`), 'utf8');

/** The files of a folder and digests of what they hold. */
async function contentOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(room.path(folder), { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`);
  const digests = await Promise.all(
    files.map(async (path) =>
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ),
  );
  return Object.fromEntries(
    files.sort().map((path, at) => [path.slice(room.path(folder).length), digests[at] ?? '']),
  );
}

const digestIn = (printed: string): string | undefined => /digest (\w+)/.exec(printed)?.[1];

describe('after forget', () => {
  test.each([
    ['an adgroup', ['--adgroup', 'g11'], 'g11'],
    ['a user', ['--value', 'user=u13'], 'u13'],
  ])(
    'of %s, store and training are those of a log that never had the rows',
    async (_what, words, id) => {
      const run = await runOf(`had-${id}`, { 'a.csv': smallLog() });
      await room.done(['prepare', run]);
      const digestBefore = digestIn(await room.done(['train', run, '--processes', '1']));
      const printed = await room.done(['forget', run, ...words]);
      expect(printed).toContain(`removed: had-${id}-store`);
      expect(printed).toContain(`removed: had-${id}/checkpoints`);
      expect(await readdir(room.path(`had-${id}`), { recursive: true })).not.toContain(
        'checkpoints/latest.json',
      );
      expect(await logOf(`had-${id}`, 'a.csv')).toBe(smallLogWithout(id));

      const never = await runOf(`never-${id}`, { 'a.csv': smallLogWithout(id) });
      for (const each of [run, never]) await room.done(['prepare', each]);
      expect(await contentOf(`had-${id}-store`)).toEqual(await contentOf(`never-${id}-store`));
      const digests = [];
      for (const each of [run, never])
        digests.push(digestIn(await room.done(['train', each, '--processes', '1'])));
      expect(digests[0]).toMatch(/^[0-9a-f]{8,}$/);
      expect(digests[0]).toBe(digests[1]);
      expect(digests[0]).not.toBe(digestBefore);
    },
    120_000,
  );

  test('each format keeps the texts of other rows', async () => {
    const csv = 'adgroup;note;clicked\ng1;"a ""b"";\nc";1\n"g;7";x;0\ng2;007;1\n';
    const json = '{"adgroup":"g;7","note":1}\n{"note": 1.50, "adgroup":"g1"}\n{"note":"g;7x"}\n';
    const run = await runOf('forms', {
      ...{ 'a.csv': csv, 'b.csv.gz': gzipSync(csv), 'c.jsonl': json, 'empty.csv': '' },
    });
    const parquet = room.path('forms-logs/d.parquet');
    await withDuckDb(async (connection) => {
      await connection.run(
        `COPY (SELECT * FROM (VALUES ('g;7', 1.5), (NULL, 2.5), ('g2', NULL)) t(adgroup, price))
          TO '${parquet}' (FORMAT parquet, COMPRESSION gzip)`,
      );
    });
    const before = await contentOf('.');
    const planned = await room.done([
      'forget',
      run,
      '--adgroup',
      'g;7',
      '--dry-run',
      '--format',
      'json',
    ]);
    expect(await contentOf('.')).toEqual(before);
    const { rewritten } = JSON.parse(planned) as {
      rewritten: { name: string; rowCount: number }[];
    };
    expect(rewritten.map(({ name, rowCount }) => [name.split('/').at(-1), rowCount])).toEqual([
      ...[
        ['a.csv', 1],
        ['b.csv.gz', 1],
        ['c.jsonl', 1],
        ['d.parquet', 1],
      ],
    ]);
    await room.done(['forget', run, '--adgroup', 'g;7']);
    const kept = 'adgroup;note;clicked\ng1;"a ""b"";\nc";1\ng2;007;1\n';
    expect(await logOf('forms', 'a.csv')).toBe(kept);
    const gz = await readFile(room.path('forms-logs/b.csv.gz'));
    expect(gunzipSync(gz).toString()).toBe(kept);
    expect(await logOf('forms', 'c.jsonl')).toBe(
      '{"note": 1.50, "adgroup":"g1"}\n{"note":"g;7x"}\n',
    );
    await withDuckDb(async (connection) => {
      const rows = await connection.runAndReadAll(
        `SELECT adgroup, CAST(price AS VARCHAR) FROM '${parquet}'`,
      );
      expect(rows.getRowsJS()).toEqual([
        [null, '2.5'],
        ['g2', null],
      ]);
    });
  });

  test('a file that cannot be written again is refused before anything is changed', async () => {
    const run = await runOf('refusing', { 'a.csv': smallLog(), 'z.csv': 'adgroup,x\ng11,"a"b"\n' });
    await room.refused(['forget', run, '--adgroup', 'g11'], {
      ...{ exitCode: 1, what: /log file cannot be read/, where: /z\.csv/, cure: /whole/ },
    });
    const inStore = await room.config('inside', ({ data }) => {
      Object.assign(data, { logs: 'inside-store/a.csv', store: 'inside-store' });
    });
    await mkdir(room.path('inside-store'));
    await room.write('inside-store/a.csv', smallLog());
    await room.refused(['forget', inStore, '--adgroup', 'g11'], {
      ...{ exitCode: 2, what: /log lies in a place/, cure: /move the log/ },
    });
    await room.write('refusing-logs/z.csv', smallLog());
    await room.write('refusing-store.prepare-lock', JSON.stringify(thisProcess()));
    await room.refused(['forget', run, '--adgroup', 'g11'], {
      ...{ exitCode: 3, what: /another prepare is writing/, where: /refusing-store/, cure: /wait/ },
    });
    await room.refused(['forget', run], {
      ...{ exitCode: 2, what: /not said by a column/, found: /adgroup/, cure: /COLUMN=VALUE/ },
    });
    await rm(room.path('refusing-store.prepare-lock'));
    const training = await claimRun({
      ...{ store: new FileObjectStore({ folder: room.path('refusing/checkpoints') }) },
      ...{ run: 'refusing', start: 'other', clock: systemClock, sink: () => undefined },
    });
    const { exitCode, diagnostics } = await room.ended(['forget', run, '--adgroup', 'g11']);
    await training.release();
    expect([exitCode, diagnostics]).toEqual([6, expect.stringContaining('another coordinator')]);
    expect(await logOf('refusing', 'a.csv')).toBe(smallLog());
  });

  test('an interrupted one goes on, with no half-written log', async () => {
    const run = await runOf('killed', { 'a.csv': smallLog(), 'b.csv': smallLog() });
    // As a kill leaves it: the first file is done, and the second one half written beside.
    await room.write('killed-logs/a.csv', smallLogWithout('g11'));
    await room.write('killed-logs/.forget-b.csv', 'adgroup,sec');
    expect(await logOf('killed', 'b.csv')).toBe(smallLog());
    await room.done(['forget', run, '--adgroup', 'g11']);
    for (const file of ['a.csv', 'b.csv'])
      expect(await logOf('killed', file)).toBe(smallLogWithout('g11'));
    expect(await readdir(room.path('killed-logs'))).toEqual(['a.csv', 'b.csv']);
    const again = await room.done(['forget', run, '--adgroup', 'g11']);
    expect(again).not.toContain('written without');
  });

  test('a trace is named, wherever it lies', async () => {
    const run = await runOf('traced', { 'a.csv': smallLog() });
    await mkdir(room.path('state'));
    await room.write('state/keys', Buffer.from('\0\0\0xxcampaign-77yy'));
    await room.write('state/rows.gz', gzipSync('{"a":"campaign-77"}'));
    await room.write('state/number.json', '{"a":"campaign-775"}');
    const words = ['forget', run, '--adgroup', 'campaign-77', '--also', 'state'];
    const { exitCode, diagnostics } = await room.ended(words);
    expect(exitCode).toBe(1);
    expect(diagnostics).toMatch(/state\/keys\n.*state\/rows\.gz\n/);
    expect(diagnostics).not.toContain('number.json');
    await rm(room.path('state/keys'));
    await rm(room.path('state/rows.gz'));
    expect(await room.done(words)).toMatch(/no trace of the id in \d+ files of \d+ bytes/);
    const short = await room.done(['forget', run, '--adgroup', 'g1']);
    expect(short).toContain('not looked through');
  });
});

describe('a row log', () => {
  const HEAD = rowLogHead(settingsOf({ mode: 'off', feedback: { windowSeconds: 10 } }));
  const ranking = (id: string, user: string, adgroups: readonly string[]): string =>
    rankingLine({
      ...{ id, epochMs: 2_000, bundle: 'b', context: { user }, decision: null },
      features: { price: adgroups.map((_, at) => at + 0.5) },
      shown: adgroups.map((adgroup) => ({
        ...{ adgroup, segment: null, bid: 0.5, probability: 0.25, propensity: 1 },
        isExploration: false,
      })),
    });
  const fileName = (beganMs: number): string =>
    `rows-${String(beganMs).padStart(15, '0')}-${'a'.repeat(16)}-000001.ndjson.gz`;
  const linesOf = async (name: string): Promise<string> =>
    gunzipSync(await readFile(room.path(`served/${name}`))).toString();

  test('loses the rows and their feedback, also in later files, and keeps the places of others', async () => {
    const run = await runOf('serving', { 'a.csv': smallLog() });
    await mkdir(room.path('served'));
    const write = (beganMs: number, ...lines: string[]): Promise<void> =>
      writeFile(room.path(`served/${fileName(beganMs)}`), gzipSync([HEAD, ...lines].join('')));
    await write(1_000, ranking('r1', 'u-anna', ['g1', 'shop-9']), ranking('r2', 'u-bert', ['g1']));
    const on = (id: string, slot: number) => feedbackOn(id, 3_000, { slot });
    await write(5_000, feedbackLine([on('r1', 1), on('r1', 2), on('r2', 1)]));
    await room.done(['forget', run, '--adgroup', 'shop-9', '--logs', 'served']);
    const [first, second] = [await linesOf(fileName(1_000)), await linesOf(fileName(5_000))];
    expect(second).toBe(HEAD + feedbackLine([on('r1', 1), on('r2', 1)]));
    expect(first.split('\n')[2]).toBe(ranking('r2', 'u-bert', ['g1']).trim());
    expect(JSON.parse(first.split('\n')[1] ?? '')).toMatchObject({
      ...{ context: { user: 'u-anna' }, features: { price: [0.5, null] } },
      shown: { adgroup: ['g1', '(forgotten)'] },
    });
    // The first file was done and the second one not when it was killed.
    await write(5_000, feedbackLine([on('r1', 2), on('r2', 1)]));
    await room.done(['forget', run, '--value', 'user=u-bert', '--logs', 'served']);
    expect(await linesOf(fileName(5_000))).toBe(HEAD + feedbackLine([]));
    expect(await linesOf(fileName(1_000))).not.toContain('u-bert');
  });
});

test('logs in a bucket are written again by a conditional put', async () => {
  const bucket = new MemoryObjectStore();
  const log = gzipSync(smallLog());
  await bucket.put('a.csv.gz', log, { kind: 'always' });
  const session = await openDuckSession(room.folder, 512, new AbortController().signal);
  try {
    const objectStoreOf = (): ObjectStore => bucket;
    const place = { session, objectStoreOf, temporaryFolder: room.path('fetched') };
    const logs = { logs: 's3://bucket/a.csv.gz', format: 'auto' } as const;
    const files = await findLogFiles(logs, place);
    const forgotten = { column: 'adgroup', value: 'g11', isAdgroup: true };
    const [file] = await logsToRewrite(files, forgotten, place);
    expect(file).toMatchObject({ name: 's3://bucket/a.csv.gz', rowCount: 20 });
    const put = vi.spyOn(bucket, 'put').mockResolvedValueOnce(null);
    const failure = await failureOf(file?.rewrite() ?? Promise.resolve());
    expect(failure.report).toMatchObject({ kind: 'transient', where: 's3://bucket/a.csv.gz' });
    expect(Buffer.from((await bucket.get('a.csv.gz'))?.bytes ?? [])).toEqual(log);
    await file?.rewrite();
    expect(put.mock.lastCall?.[2]).toMatchObject({ kind: 'unchanged' });
    const kept = await bucket.get('a.csv.gz');
    expect(gunzipSync(kept?.bytes ?? '').toString()).toBe(smallLogWithout('g11'));
    await bucket.put('b/keys', Buffer.from('\0xxcampaign-77yy'), { kind: 'always' });
    const traces = await tracesIn(['s3://bucket'], 'campaign-77', place);
    expect(traces).toMatchObject({ fileCount: 2, found: ['s3://bucket/b/keys'], skipped: [] });
  } finally {
    session.close();
  }
});
