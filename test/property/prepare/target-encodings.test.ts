// Target encodings across tasks: no row knows a label of its own task or fold, nor of a task that is held
// out. Labels are random and most values belong to few rows, so that a leaked label would be plain to see. The
// check flips labels and looks which rows change; it finds the leaks of four wrong rules, planted in a plain
// computation. Seen to fail with these planted in `prepare` itself: rows of training tasks that read the sums of
// all (own label, query label), own sums that are not subtracted (fold), folds by row instead of by task, half of
// the own rows left in the sums (query label), sums over held-out tasks.

import { createHash } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { targetEncodingArrays } from '../../../coordinator/export/export-bundle.js';
import { randomStream } from '../../../shared/base/random.js';
import { BundleArrays, type ReadFiles, writeArray } from '../../../shared/bundle/array-files.js';
import type { BundleArray } from '../../../shared/bundle/bundle-manifest.js';
import { targetEncodingsOf } from '../../../shared/bundle/read-bundle.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { sha256Of } from '../../../shared/tensors/sha256.js';
import { compareWithStore, encoderOfStore } from '../../fixtures/encoded-store.js';
import { openedOnce } from '../../fixtures/opened.js';
import { prepareRoom } from '../../fixtures/stores/prepared-store.js';

interface PlainRow {
  readonly task: string;
  readonly split: 'train' | 'validation' | 'test';
  readonly role: 'support' | 'query';
  /** The values that are encoded: both in a pair. */
  readonly value: string;
  readonly clicked: number;
}

interface PlainSettings {
  readonly seed: number;
  readonly folds: number;
  readonly smoothing: number;
}

/** Which rows a row may not read; `ok` is the product's rule. */
type Rule = 'ok' | 'own label' | 'query label' | 'fold by row' | 'own task alone';

/** [rate, count] of each row. */
function plainEncoding(
  rows: readonly PlainRow[],
  settings: PlainSettings,
  rule: Rule = 'ok',
): [number, number][] {
  const foldOf = ({ task, split }: PlainRow, index: number): number =>
    split === 'train'
      ? hashOf(settings.seed, rule === 'fold by row' ? `${task} ${index}` : task, settings.folds)
      : -1;
  const folds = rows.map(foldOf);
  const tasksOf = new Map<string, Set<string>>();
  for (const { task, split, value } of rows)
    if (split === 'train') tasksOf.set(value, (tasksOf.get(value) ?? new Set()).add(task));
  const trained = rows.filter(({ split }) => split === 'train');
  const isShared = (value: string): boolean => tasksOf.get(value)!.size > 1;
  const sharedCount = trained.filter(({ value }) => isShared(value)).length;
  const tellsAll = 2 * sharedCount >= trained.length;
  const isRead = (reader: number, read: number): boolean => {
    if (rows[read]!.split !== 'train') return false;
    if (rule === 'own label' && reader === read) return true;
    const isOwnTask = rows[reader]!.task === rows[read]!.task;
    if (rule === 'query label' && isOwnTask && rows[read]!.role === 'query') return true;
    if (rule === 'own task alone') return !isOwnTask;
    return folds[reader] !== folds[read];
  };
  const level = (rate: number): number => Math.log(rate / (1 - rate));
  return rows.map(({ value }, reader) => {
    const read = [...rows.keys()].filter((index) => isRead(reader, index));
    const clicksOf = (indices: readonly number[]): number =>
      indices.reduce((sum, index) => sum + rows[index]!.clicked, 0);
    const own = read.filter((index) => rows[index]!.value === value);
    if (own.length === 0 || !(tellsAll || isShared(value))) return [0, 0];
    const base = clicksOf(read) / read.length;
    const scale = trained.length / read.length;
    const { smoothing } = settings;
    const rate = (scale * clicksOf(own) + smoothing * base) / (scale * own.length + smoothing);
    return [level(rate) - level(base), Math.log1p(scale * own.length) / 4];
  });
}

/** The fold of a task, as prepare hashes its key. */
function hashOf(seed: number, key: string, folds: number): number {
  const digest = createHash('md5').update(`${seed}\u001fencoding fold\u001f${key}`).digest();
  return Number(digest.readBigUInt64LE(8) % BigInt(folds));
}

const SETTINGS = { seed: 7, folds: 3, smoothing: 2 };
const TASK_COUNT = 30;
const ROWS_PER_TASK = 12;

/** Values of `near` are in about three rows, those of `common` in hundreds. */
interface LogRow {
  readonly task: string;
  readonly near: string;
  readonly common: string;
}
const random = randomStream(5, 'rows of target encodings');
const LOG: readonly LogRow[] = Array.from({ length: TASK_COUNT * ROWS_PER_TASK }, (_, row) => ({
  task: `t${Math.floor(row / ROWS_PER_TASK)}`,
  near: `n${random.below((TASK_COUNT * ROWS_PER_TASK) / 3)}`,
  common: `c${random.below(4)}`,
}));
const LABELS = LOG.map(() => random.below(2));

const room = openedOnce(prepareRoom);
let config: RunConfig;
beforeAll(() => {
  config = room.config({
    taskSplit: { by: 'hash', validationShare: 0.15, testShare: 0.2 },
    rowSplit: { by: 'hash', supportShare: 0.5 },
    features: [
      { name: 'near', kind: 'category' },
      { name: 'common', kind: 'category' },
    ],
    targetEncodings: { of: ['near', 'common', ['common', 'near']], folds: 3, smoothing: 2 },
  });
});

interface EncodedRow {
  readonly task: string;
  readonly split: PlainRow['split'];
  readonly role: PlainRow['role'];
  readonly numbers: readonly number[];
}

async function prepareStore(labels: readonly number[]): Promise<void> {
  const lines = LOG.map(
    ({ task, near, common }, row) => `${task},${near},${common},${labels[row]}`,
  );
  await room.write('log.csv', `ad,near,common,clicked\n${lines.join('\n')}\n`);
  await room.prepare(config);
}

const known = new Map<string, EncodedRow[]>();

/** The encodings that `prepare` writes for the rows of the log. */
async function prepared(labels: readonly number[]): Promise<EncodedRow[]> {
  const found = known.get(labels.join(''));
  if (found !== undefined) return found;
  await prepareStore(labels);
  const store = await openTaskStore(config.data.store, {});
  const rows: EncodedRow[] = [];
  known.set(labels.join(''), rows);
  for (const { taskIndex, key, split } of store.tasks) {
    if (split === 'trunk') continue;
    const [task] = await store.readTasks([taskIndex]);
    for (let row = 0; row < task!.rowCount; row += 1)
      rows[task!.logRows[row]!] = {
        ...{ task: key, split, role: row < task!.supportRowCount ? 'support' : 'query' },
        numbers: task!.numbers.map((values) => values[row]!),
      };
  }
  await store.close();
  return rows;
}

type Encode = (labels: readonly number[]) => Promise<(readonly number[])[]>;

/** Names of the leaks that flipped labels show. */
async function leaksOf(encode: Encode, rows: readonly EncodedRow[]): Promise<Set<string>> {
  const before = await encode(LABELS);
  const leaks = new Set<string>();
  const flip = async (
    isFlipped: (row: EncodedRow, index: number) => boolean,
    judge: (row: EncodedRow, index: number) => string | null,
  ): Promise<void> => {
    const flipped = LABELS.map((label, index) =>
      isFlipped(rows[index]!, index) ? 1 - label : label,
    );
    const after = await encode(flipped);
    let changedCount = 0;
    for (const [index, row] of rows.entries()) {
      if (after[index]!.every((value, place) => Object.is(value, before[index]![place]))) continue;
      const leak = judge(row, index);
      if (leak === null) changedCount += 1;
      else leaks.add(leak);
    }
    leaks.add(changedCount > 0 ? 'read' : 'unread');
  };
  const foldOf = ({ task }: EncodedRow): number => hashOf(SETTINGS.seed, task, SETTINGS.folds);
  const ofTraining = (role: string): number =>
    rows.findIndex((row) => row.split === 'train' && row.role === role);
  const one = ofTraining('support');
  const inFold = (row: EncodedRow, of: EncodedRow, leak: string): string | null => {
    if (row.split !== 'train') return null;
    if (row.task === of.task) return leak;
    return foldOf(row) === foldOf(of) ? 'own fold' : null;
  };
  await flip(
    (_row, index) => index === one,
    (row, index) => (index === one ? 'own label' : inFold(row, rows[one]!, 'own task')),
  );
  const asked = rows[ofTraining('query')]!;
  await flip(
    ({ task, role }) => task === asked.task && role === 'query',
    (row) => inFold(row, asked, 'query label'),
  );
  return leaks;
}

const plainRows = (rows: readonly EncodedRow[], labels: readonly number[]): PlainRow[][] =>
  (['near', 'common', 'pair'] as const).map((encoded) =>
    rows.map(({ task, split, role }, index) => {
      const { near, common } = LOG[index]!;
      const value = encoded === 'pair' ? `${common} ${near}` : { near, common }[encoded];
      return { task, split, role, value, clicked: labels[index]! };
    }),
  );

const plain =
  (rows: readonly EncodedRow[], rule: Rule): Encode =>
  (labels) => {
    const encodings = plainRows(rows, labels).map((each) => plainEncoding(each, SETTINGS, rule));
    return Promise.resolve(rows.map((_, index) => encodings.flatMap((each) => each[index]!)));
  };

const encode: Encode = async (labels) => (await prepared(labels)).map(({ numbers }) => numbers);

test('no row changes with labels of its task or its fold, and none with those of held-out tasks', async () => {
  const rows = await prepared(LABELS);
  expect([...(await leaksOf(encode, rows))]).toEqual(['read']);
  const heldOut = LABELS.map((label, row) => (rows[row]!.split === 'train' ? label : 1 - label));
  expect(await encode(heldOut)).toEqual(rows.map(({ numbers }) => numbers));
});

test('the check finds planted leaks, and none in the plain rule, which is the one of the store', async () => {
  const rows = await prepared(LABELS);
  const expected = await plain(rows, 'ok')(LABELS);
  for (const [index, { numbers }] of rows.entries())
    for (const [place, value] of numbers.entries())
      expect(value, `row ${index}, number ${place}`).toBeCloseTo(expected[index]![place]!, 5);
  expect(rows.some(({ split, numbers }) => split === 'train' && numbers[0] !== 0)).toBe(true);

  expect([...(await leaksOf(plain(rows, 'ok'), rows))]).toEqual(['read']);
  expect(await leaksOf(plain(rows, 'own label'), rows)).toContain('own label');
  expect(await leaksOf(plain(rows, 'query label'), rows)).toContain('query label');
  expect(await leaksOf(plain(rows, 'fold by row'), rows)).toContain('own task');
  expect(await leaksOf(plain(rows, 'own task alone'), rows)).toContain('own fold');
});

/** Correlation of labels and rates of training rows, within values. */
function correlationOf(rows: readonly PlainRow[], rates: readonly number[]): number {
  const groups = new Map<string, number[]>();
  for (const [index, { split, value }] of rows.entries())
    if (split === 'train') groups.set(value, [...(groups.get(value) ?? []), index]);
  let [both, ofLabels, ofRates] = [0, 0, 0];
  for (const indices of groups.values()) {
    const mean = (of: (index: number) => number): number =>
      indices.reduce((sum, index) => sum + of(index), 0) / indices.length;
    const [label, rate] = [mean((index) => rows[index]!.clicked), mean((index) => rates[index]!)];
    for (const index of indices) {
      const [x, y] = [rows[index]!.clicked - label, rates[index]! - rate];
      both += x * y;
      ofLabels += x * x;
      ofRates += y * y;
    }
  }
  return both / Math.sqrt(ofLabels * ofRates);
}

// One row a task, so that all tasks but the own one are all rows but the own one.
test('a label cannot be read from what is missing in the sums', () => {
  const rows = Array.from({ length: 600 }, (_, index): PlainRow => {
    const stream = randomStream(index, 'single rows');
    const value = `c${stream.below(3)}`;
    return { task: `t${index}`, split: 'train', role: 'query', value, clicked: stream.below(2) };
  });
  const ratesOf = (rule: Rule): number[] =>
    plainEncoding(rows, { seed: 7, folds: 5, smoothing: 20 }, rule).map(([rate]) => rate);
  expect(correlationOf(rows, ratesOf('own task alone'))).toBeLessThan(-0.99);
  expect(Math.abs(correlationOf(rows, ratesOf('ok')))).toBeLessThan(0.25);
});

test('new rows are encoded as rows of held-out tasks are, also from a bundle', async () => {
  await prepareStore(LABELS);
  const store = await openTaskStore(config.data.store, {});
  const { manifest } = store;
  const encoder = await encoderOfStore(config, manifest);
  const held = new Set(store.tasks.flatMap(({ key, split }) => (split === 'train' ? [] : [key])));
  const logRows = LOG.map(({ task, near, common }) => ({ ad: task, near, common }));
  const found = await compareWithStore(config, encoder, logRows, {}, ({ key }) => held.has(key));
  expect(found.differences).toEqual([]);
  expect(found.storedRowCount).toBe(held.size * ROWS_PER_TASK);

  const files = new Map<string, Uint8Array>();
  const arrays: BundleArray[] = [];
  for await (const array of targetEncodingArrays(store))
    arrays.push(
      await writeArray(array, (bytes) => {
        const sha256 = sha256Of(bytes);
        files.set(sha256, bytes);
        return Promise.resolve({ sha256, byteCount: bytes.length });
      }),
    );
  const filesOf: ReadFiles = (refs) =>
    Promise.resolve(refs.map(({ sha256 }) => files.get(sha256)!));
  const read = new BundleArrays(arrays, filesOf, 'it');
  const encodings = await targetEncodingsOf(manifest.features, read);
  expect([...encodings.keys()]).toEqual([
    'encodings/near',
    'encodings/common',
    'encodings/common+near',
  ]);
  const ofBundle = await encoderOfStore(config, manifest, encodings);
  expect(
    (await compareWithStore(config, ofBundle, logRows, {}, ({ key }) => held.has(key))).differences,
  ).toEqual([]);
  await store.close();
});
