/**
 * The log of rows: what is appended is delivered in order and once, whoever is killed, the store stays within its bound, and
 * nobody waits for a disk that hangs.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { expect, test, vi } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { openRowLog, type RowLog } from '../../../worker/serving/exploration/row-log.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { openedForEach } from '../../fixtures/opened.js';

const folder = openedForEach(temporaryFolder);

const HEAD = 'head\n';
const lineOf = (number: number): string => `${String(number).padStart(9, '0')}\n`;
const told: string[] = [];

function opened(store: ObjectStore, options: object = {}): Promise<RowLog> {
  return openRowLog({
    ...{ store, spool: join(folder.path, 'spool'), clock: systemClock, nonce: '0'.repeat(16) },
    ...{ firstLine: HEAD, deliverySeconds: 3_600, storeByteCountMax: 2 ** 30 },
    onEvent: (event) => told.push(event.kind),
    ...options,
  });
}

/** Texts of the objects, in their order. */
async function delivered(store: ObjectStore): Promise<string[]> {
  const texts: string[] = [];
  for (const key of await store.list('rows-'))
    texts.push(gunzipSync((await store.get(key))!.bytes).toString());
  return texts;
}

function numbersIn(texts: readonly string[]): number[] {
  const lines = texts.join('').split('\n').slice(0, -1);
  return lines.filter((line) => line !== 'head').map(Number);
}

const firstTo = (end: number): number[] => Array.from({ length: end }, (_, number) => number);

test('delivers what was appended in order, in files that begin with their first line', async () => {
  const store = new MemoryObjectStore();
  const log = await opened(store, { fileByteCountMax: HEAD.length + 100 });
  for (const number of firstTo(35)) await log.append(lineOf(number));
  await log.close();
  const texts = await delivered(store);
  // Ten lines of ten bytes fit into a file.
  expect(texts.map((text) => text.length - HEAD.length)).toEqual([100, 100, 100, 50]);
  expect(texts.every((text) => text.startsWith(HEAD))).toBe(true);
  expect(numbersIn(texts)).toEqual(firstTo(35));
  expect(await readdir(join(folder.path, 'spool'))).toEqual([]);
});

test('delivers a file of its age though nothing more is appended', async () => {
  const store = new MemoryObjectStore();
  const log = await opened(store, { deliverySeconds: 1 });
  await log.append(lineOf(0));
  await vi.waitFor(async () => expect(numbersIn(await delivered(store))).toEqual([0]), 30_000);
  await log.append(lineOf(1));
  await log.close();
  expect(numbersIn(await delivered(store))).toEqual([0, 1]);
});

test('removes the oldest objects beyond the bound of the store', async () => {
  const store = new MemoryObjectStore();
  const one = await opened(store);
  await one.append(lineOf(0));
  await one.close();
  const [{ byteCount } = { byteCount: 0 }] = await store.listWithTimes('rows-');
  // Objects differ by a few bytes.
  const storeByteCountMax = 3.5 * byteCount;
  const log = await opened(store, {
    fileByteCountMax: 1,
    storeByteCountMax,
    nonce: '1'.repeat(16),
  });
  for (const number of firstTo(10)) await log.append(lineOf(number));
  await log.close();
  expect(numbersIn(await delivered(store))).toEqual([7, 8, 9]);
});

test('keeps files while the store is away, and the next process delivers them once', async () => {
  const store = new MemoryObjectStore();
  const away = new MemoryObjectStore();
  away.put = () => Promise.reject(new Error('away'));
  const log = await opened(away);
  await log.append(lineOf(0));
  told.length = 0;
  await log.close();
  expect(told).toContain('warning');
  // Half a line at the end of a file was never acknowledged.
  const [name = ''] = await readdir(join(folder.path, 'spool'));
  await writeFile(join(folder.path, 'spool', name), '00000', { flag: 'a' });
  await (await opened(store)).close();
  await (await opened(store)).close();
  expect(await delivered(store)).toEqual([HEAD + lineOf(0)]);
});

test('says that a line is not logged, and goes on when it can', async () => {
  const store = new MemoryObjectStore();
  const log = await opened(store);
  await log.append(lineOf(1));
  await rm(join(folder.path, 'spool'), { recursive: true });
  await expect(log.append(lineOf(2))).rejects.toMatchObject({ kind: 'environment' });
  await (await opened(store, { nonce: 'c'.repeat(16) })).close();
  await log.append(lineOf(3));
  await log.close();
  expect(numbersIn(await delivered(store))).toEqual([3]);
});

test('refuses lines that have no room in the spool', async () => {
  const log = await opened(new MemoryObjectStore(), { spoolByteCountMax: 20 });
  await log.append(lineOf(0));
  await expect(log.append(lineOf(1))).rejects.toMatchObject({
    report: { what: expect.stringContaining('too many rows wait') as string },
  });
  await log.close();
});

test('lets a line wait as long as its patience, and the next ones not at all until the disk answers', async () => {
  const store = new MemoryObjectStore();
  // Impatience of 5 ms ends before a disk can have answered; what must not be waited for would take an hour.
  const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    ms === 5 ? Promise.resolve() : systemClock.sleep(ms, signal);
  const log = await opened(store, { clock: { ...systemClock, sleep } });
  const slow = { report: { what: expect.stringContaining('takes too long') as string } };
  await expect(log.append(lineOf(0), 5)).rejects.toMatchObject(slow);
  await expect(log.append(lineOf(1), 3_600_000)).rejects.toMatchObject(slow);
  await log.append(lineOf(2));
  await log.append(lineOf(3), 3_600_000);
  await log.close();
  expect(numbersIn(await delivered(store))).toEqual([0, 2, 3]);
});

const CHILD = `
const [log, clock, store] = await Promise.all(process.argv.slice(1, 4).map((url) => import(url)));
const [spool, folder, nonce, first] = process.argv.slice(4);
const opened = await log.openRowLog({
  store: new store.FileObjectStore({ folder }), spool, clock: clock.systemClock, nonce, firstLine: 'head\\n',
  deliverySeconds: 3600, storeByteCountMax: 2 ** 30, fileByteCountMax: 2000, onEvent: () => undefined,
});
for (let number = Number(first); ; number += 1) {
  await opened.append(String(number).padStart(9, '0') + '\\n');
  process.stdout.write(number + '\\n');
}`;

/** Lets a process append numbers from `first` on, kills it after so many, and returns the last one that it acknowledged. */
async function killedAfter(count: number, first: number, nonce: string): Promise<number> {
  const modules = [
    'worker/serving/exploration/row-log',
    'shared/base/clock',
    'shared/storage/file-object-store',
  ];
  const urls = modules.map((name) => pathToFileURL(`dist/${name}.js`).href);
  const places = ['spool', 'rows'].map((name) => join(folder.path, name));
  const words = ['--input-type=module', '-e', CHILD, ...urls, ...places, nonce, String(first)];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let last = first - 1;
  for await (const line of createInterface({ input: child.stdout })) {
    last = Math.max(last, Number(line));
    if (last === first + count) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return last;
}

test('a process that is killed loses no line that it has acknowledged, and doubles none', async () => {
  let next = 0;
  const acknowledged: number[] = [];
  for (const [place, count] of [37, 501, 1_203].entries()) {
    const last = await killedAfter(count, next, String(place).repeat(16));
    for (let number = next; number <= last; number += 1) acknowledged.push(number);
    // What was written and not acknowledged may be there.
    next = last + 1_000;
  }
  const store = new FileObjectStore({ folder: join(folder.path, 'rows') });
  await (await opened(store, { nonce: 'f'.repeat(16) })).close();
  const found = numbersIn(await delivered(store));
  expect(new Set(found).size).toBe(found.length);
  expect(found.some(Number.isNaN)).toBe(false);
  const isFound = new Set(found);
  expect(acknowledged.filter((number) => !isFound.has(number))).toEqual([]);
  expect(acknowledged.length).toBeGreaterThan(1_700);
});
