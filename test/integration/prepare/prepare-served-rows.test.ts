/**
 * Row logs of servers as logs: a row is what was rendered, with its first outcome within the window; a store of served rows is that
 * of a file with the same rows; and each row is appended once, when its feedback is complete.
 */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { joinRows, rowLogAt } from '../../../coordinator/logs/row-log.js';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import {
  feedbackLine,
  rankingLine,
  type FeedbackRecord,
} from '../../../shared/config/row-record.js';
import { feedbackOn, rowLogHead, settingsOf } from '../../fixtures/decision-input.js';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();
beforeEach(() => mkdir(room.path('rows')));

const HEAD = rowLogHead(settingsOf({ mode: 'off', feedback: { windowSeconds: 10 } }));

/** Writes a file that a server has begun at a time. */
async function deliver(beganMs: number, lines: readonly string[], nonce = 'a'): Promise<void> {
  const name = `rows-${String(beganMs).padStart(15, '0')}-${nonce.repeat(16)}-000001.ndjson.gz`;
  await writeFile(room.path(`rows/${name}`), gzipSync([HEAD, ...lines].join('')));
}

interface Shown {
  readonly adgroups: readonly string[];
  readonly epochMs: number;
  readonly context?: object;
  readonly features?: Readonly<Record<string, readonly unknown[]>>;
}

function ranking(id: string, { adgroups, epochMs, context = {}, features = {} }: Shown): string {
  const shown = adgroups.map((adgroup) => ({
    ...{ adgroup, segment: null, bid: 0.5, probability: 0.25 },
    ...{ propensity: 1, isExploration: false },
  }));
  return rankingLine({
    ...{ id, epochMs, bundle: 'b', context: { ...context }, features, shown, decision: null },
  });
}

const feedback = (...events: readonly FeedbackRecord[]): string => feedbackLine(events);
const click = (id: string, epochMs: number, slot = 1, reward = 1): FeedbackRecord =>
  feedbackOn(id, epochMs, { slot, reward });
const impression = (id: string, epochMs: number, slot = 1): FeedbackRecord =>
  feedbackOn(id, epochMs, { slot });

/** The rows of the log as they are read, and what is said of them. */
async function joined(isKnown?: (digest: string) => boolean, isStopped = false) {
  const stop = new AbortController();
  const session = await openDuckSession(room.folder, 512, stop.signal);
  if (isStopped) stop.abort();
  try {
    const files = await rowLogAt(room.path('rows'), () => expect.unreachable());
    const path = room.path('joined.jsonl');
    const fetch = (): Promise<string> => expect.unreachable();
    const served = await joinRows(files!, { session, path, fetch, isKnown });
    const text = served.digests.length === 0 ? '' : await readFile(path, 'utf8');
    const rows = text.split('\n').slice(0, -1);
    return { ...served, rows: rows.map((row) => JSON.parse(row) as Record<string, unknown>) };
  } finally {
    session.close();
  }
}

describe('a row', () => {
  test('is what was rendered, with the raw values of its request', async () => {
    await deliver(1_000, [
      ranking('r1', {
        ...{ adgroups: ['x', 'y"\n', 'z'], epochMs: 2_500 },
        context: { User: 'u', user: 7, 'odd/~"name': [1.5, null], price: 1, served_bid: 9 },
        features: { price: [0.1, null, 3], tags: [['p', 'q'], [], 'r'] },
      }),
      feedback(impression('r1', 2_600), impression('r1', 2_600, 2), click('r1', 9_000)),
    ]);
    const { rows, rowCount, columns } = await joined();
    expect(rowCount).toBe(2);
    const common = { User: 'u', user: 7, 'odd/~"name': [1.5, null], served_bid: 0.5 };
    const served = {
      served_time: 2.5,
      served_impression: 1,
      served_bundle: 'b',
      served_probability: 0.25,
    };
    expect(rows).toMatchObject([
      { ...common, ...served, price: 0.1, tags: ['p', 'q'], served_adgroup: 'x', served_click: 1 },
      { ...common, ...served, price: null, tags: [], served_adgroup: 'y"\n', served_click: 0 },
    ]);
    expect(rows.map((row) => row['served_event'])).toEqual(['r1.1', 'r1.2']);
    expect([...columns].filter((name) => !name.startsWith('served_')).sort()).toEqual(
      ['User', 'user', 'odd/~"name', 'price', 'tags'].sort(),
    );
  });

  test('has the first outcome within the window of its impression, from any file, and once', async () => {
    const ids = ['clicked', 'late', 'twice', 'part', 'early', 'unseen', 'unrendered'];
    await deliver(
      1_000,
      ids.map((id) => ranking(id, { adgroups: ['x'], epochMs: 2_000 })),
    );
    await deliver(2_000, [
      feedback(...ids.slice(0, -2).map((id) => impression(id, 3_000)), click('clicked', 13_000)),
      feedback(click('late', 13_001), click('twice', 5_000, 1, 1), click('part', 4_000, 1, 0.5)),
      // Sent again, and acknowledged by another process before.
      feedback(impression('clicked', 3_000), click('clicked', 13_000), click('twice', 4_000, 1, 0)),
    ]);
    await deliver(1_500, [feedback(click('early', 2_500), click('unrendered', 3_000))], 'b');
    const { rows } = await joined();
    const labels = rows.map((row) => [
      row['served_event'],
      row['served_click'],
      row['served_value'],
    ]);
    expect(labels).toEqual([
      // Of one time, in the order of their numbers.
      ['late.1', 0, 0],
      ['part.1', 0.5, 0.5],
      ['early.1', 1, 1],
      ['twice.1', 0, 0],
      ['clicked.1', 1, 1],
    ]);
  });

  test('is not said to be damaged when its reading is stopped', async () => {
    await deliver(0, [ranking('one', { adgroups: ['a'], epochMs: 1_000 })]);
    await expect(joined(undefined, true)).rejects.toMatchObject({ kind: 'interrupted' });
  });

  test('is read when its feedback is complete, and then not again', async () => {
    const at = Date.now();
    await deliver(1_000, [ranking('old', { adgroups: ['x'], epochMs: 2_000 })]);
    await deliver(at, [
      ranking('new', { adgroups: ['x'], epochMs: at }),
      feedback(impression('old', 3_000), impression('new', at)),
    ]);
    const first = await joined();
    expect(first.rows.map((row) => row['served_event'])).toEqual(['old.1']);
    expect(first).toMatchObject({ waitingCount: 1, knownCount: 0 });
    const again = await joined((digest) => first.digests.includes(digest));
    expect(again).toMatchObject({ waitingCount: 1, knownCount: 1, rows: [] });
  });
});

/** Rankings of three places by adgroups `a` to `e`, with feedback on some of them. */
function servedDay(first: number, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const number = first + index;
    const epochMs = 10_000 + 100 * number;
    const adgroups = [0, 1, 2].map((slot) =>
      'abcde'.charAt((number + slot * (1 + (number % 2))) % 5),
    );
    const features = {
      ad: adgroups,
      site: [0, 1, 2].map((slot) => ['news', 'shop', 7][(number + slot) % 3]),
      price: [0, 1, 2].map((slot) => ((number * 7 + slot) % 10) / 3),
    };
    const context = { at: 1_000 + number, user: `u${number % 4}` };
    return (
      ranking(`r${number}`, { adgroups, epochMs, context, features }) +
      feedback(
        ...[1, 2].map((slot) => impression(`r${number}`, epochMs, slot)),
        ...(number % 3 === 0 ? [click(`r${number}`, epochMs + 50, 1 + (number % 2))] : []),
      )
    );
  });
}

/** The same rows as somebody would write them, under the names of a log of their own. */
function writtenDay(first: number, count: number): string {
  const lines = servedDay(first, count).flatMap((lines, index) => {
    const number = first + index;
    const { context, features } = JSON.parse(lines.split('\n')[0]!) as {
      context: object;
      features: Record<string, unknown[]>;
    };
    return [0, 1].map((slot) => ({
      ...context,
      ...Object.fromEntries(Object.entries(features).map(([name, values]) => [name, values[slot]])),
      clicked: Number(number % 3 === 0 && number % 2 === slot),
    }));
  });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

const configOf = (data: object = {}): RunConfig =>
  room.config({
    time: 'at',
    label: { expression: 'clicked > 0' },
    rowSplit: { by: 'time', supportShare: 0.5 },
    features: [
      { name: 'site', kind: 'category' },
      { name: 'person', kind: 'category', column: 'user' },
      { name: 'ad', kind: 'category' },
      { name: 'hour', kind: 'category', expression: 'CAST("at" AS BIGINT) % 24' },
      { name: 'price', kind: 'number' },
    ],
    ...data,
  });

describe('a store', () => {
  test('of served rows is that of a file with the same rows', async () => {
    await deliver(1_000, servedDay(0, 30));
    await deliver(2_000, servedDay(30, 30), 'b');
    const written = await room.write('written.jsonl', writtenDay(0, 60));
    const served = await room.prepare(configOf({ logs: room.path('rows') }));
    const other = configOf({ logs: written, store: room.path('other') });
    const own = await room.prepare(other);
    expect(served.rowCount).toBe(120);
    // The types of the columns are those of other names: the key, the label and its impressions.
    const rest = (manifest: typeof own): readonly object[] =>
      manifest.files.filter(({ name }) => name !== 'columns.json');
    expect(rest(served)).toEqual(rest(own));
    expect(served.rowFiles).toHaveLength(2);
    expect(own.rowFiles).toBeUndefined();
  });

  test('takes each served row once, as it would take those of a file', async () => {
    await deliver(1_000, servedDay(0, 30));
    const served = configOf({ logs: room.path('rows') });
    await room.prepare(served);
    // Those that prepare has read are known.
    expect(await room.append(served, 'rows')).toMatchObject({ append: null, knownFileCount: 1 });
    await deliver(2_000, servedDay(30, 20));
    const { append, knownFileCount } = await room.append(served, 'rows');
    expect([append?.logRowCount, knownFileCount]).toEqual([40, 1]);
    expect(await room.append(served, 'rows')).toMatchObject({ append: null, knownFileCount: 2 });
    const grown = (await room.stored()).manifest;

    await room.write('early.jsonl', writtenDay(0, 30));
    await room.write('late.jsonl', writtenDay(30, 20));
    const own = configOf({ logs: room.path('early.jsonl'), store: room.path('store') });
    await room.prepare(own, { force: true });
    await room.append(own, 'late.jsonl');
    const { manifest } = await room.stored();
    const rest = (each: typeof manifest): readonly object[] =>
      each.files.filter(({ name }) => name !== 'columns.json');
    expect(rest(grown)).toEqual(rest(manifest));
  });

  test('is not made without rows, nor of row logs and others together', async () => {
    const config = configOf({ logs: room.path('rows') });
    await deliver(1_000, [ranking('r1', { adgroups: ['x'], epochMs: 2_000 })]);
    expect(await failureTextOf(room.prepare(config))).toMatch(
      /no rows to train on yet[^]*rankings without impressions[^]*\/v1\/feedback/,
    );
    await deliver(1_000, [ranking('r1', { adgroups: ['x'], epochMs: Date.now() })]);
    expect(await failureTextOf(room.prepare(config))).toMatch(/1 file whose feedback may still/);
    await deliver(1_000, servedDay(0, 9));
    const written = await room.write('written.jsonl', writtenDay(0, 9));
    expect(
      await failureTextOf(room.prepare(configOf({ logs: [room.path('rows'), written] }))),
    ).toMatch(/not read together with other logs[^]*qianmo refresh/);
  });
});
