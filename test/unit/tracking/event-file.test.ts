/** Event files of TensorBoard, byte by byte. */

import { open, readdir, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import {
  openingRecords,
  recordOf,
  scalarRecord,
  TensorBoardTracker,
} from '../../../coordinator/tracking/tensorboard-tracker.js';
import { crc32c, maskedCrc } from '../../../shared/formats/crc32c.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { outerStep } from '../../fixtures/tracking/told-events.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('checksums are those of RFC 3720, B.4', () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

test('a record is length, checksum, data, checksum', () => {
  const record = recordOf(Buffer.from('123456789'));
  expect(hex(record.subarray(0, 8))).toBe('0900000000000000');
  expect(hex(record.subarray(12, 21))).toBe(hex(Buffer.from('123456789')));
  const view = Buffer.from(record);
  // 0xe3069283 turned right by 15 bits is 0x2507c60d; the constant of the mask is 0xa282ead8.
  expect(view.readUInt32LE(21)).toBe(0xc78ab0e5);
  expect(view.readUInt32LE(8)).toBe(maskedCrc(crc32c(record.subarray(0, 8))));
  expect(record).toHaveLength(25);
});

test('a file begins with its version and the outer step that it goes on at', () => {
  const records = openingRecords(1_500, 7);
  // wall_time 1.5, step 0, file_version; then wall_time 1.5, step 7, session_log { status: START }.
  const version = `09000000000000f83f10001a0d${hex(Buffer.from('brain.Event:2'))}`;
  expect(hex(records)).toContain(version);
  expect(hex(records)).toContain('09000000000000f83f10073a020801');
});

test('scalars of one outer step are one event', () => {
  const at = { outerStep: 300, epochMs: 2_000 };
  const record = scalarRecord([
    { name: 'a', value: 0.5, ...at },
    { name: 'bc', value: Number.NaN, ...at },
  ]);
  // wall_time 2.0, step 300 (ac02), summary { value { tag: "a", simple_value: 0.5 }, ... }
  const values = '0a080a0161150000003f' + '0a090a02626315ffffff7f';
  expect(hex(record.subarray(12, -4))).toBe(`09000000000000004010ac022a15${values}`);
});

test('each run of a call has a folder with one file', async () => {
  const folder = await temporaryFolder();
  try {
    const tracked = { call: 'evaluate', run: 'r', output: 'out' };
    const tracker = new TensorBoardTracker(folder.path, tracked);
    await tracker.take([outerStep(1), { ...outerStep(1), runId: 'r-global' }]);
    await tracker.take([outerStep(2)]);
    await tracker.end();
    expect((await readdir(folder.path)).sort()).toEqual(['evaluate', 'evaluate-r-global']);
    const [file = '', ...others] = await readdir(join(folder.path, 'evaluate'));
    expect(others).toEqual([]);
    expect(file).toMatch(/^events\.out\.tfevents\.\d{10}\.\d{3}\./);
    expect(recordsIn(await readFile(join(folder.path, 'evaluate', file)))).toBe(4);
  } finally {
    await folder.remove();
  }
});

test.each([
  ['the first record of the second file', 3],
  ['an event of the second file', 4],
])('events that are given again are in a file once: after a failure at %s', async (_, failing) => {
  const folder = await temporaryFolder();
  const handle = await open(folder.path);
  const everyHandle = Object.getPrototypeOf(handle) as FileHandle;
  const write = Reflect.get<FileHandle, 'write'>(everyHandle, 'write');
  let writeCount = 0;
  const spy = vi.spyOn(everyHandle, 'write').mockImplementation(function (
    this: FileHandle,
    ...written: Parameters<typeof write>
  ) {
    writeCount += 1;
    return writeCount === failing
      ? Promise.reject(new Error('no space left on device'))
      : Reflect.apply(write, this, written);
  });
  try {
    const tracked = { call: 'evaluate', run: 'r', output: 'out' };
    const tracker = new TensorBoardTracker(folder.path, tracked);
    const events = [outerStep(1), { ...outerStep(1), runId: 'r-global' }];
    await expect(tracker.take(events)).rejects.toThrow('no space');
    await tracker.take([...events, outerStep(2)]);
    await tracker.end();
    const counts: number[][] = [];
    for (const run of ['evaluate', 'evaluate-r-global']) {
      const files = await readdir(join(folder.path, run));
      const bytes = files.map((file) => readFile(join(folder.path, run, file)));
      counts.push((await Promise.all(bytes)).map(recordsIn));
    }
    // Two records begin a file.
    expect(counts).toEqual([[4], [3]]);
  } finally {
    spy.mockRestore();
    await handle.close();
    await folder.remove();
  }
});

/** The number of records; fails where a checksum does not hold. */
function recordsIn(bytes: Buffer): number {
  let recordCount = 0;
  for (let place = 0; place < bytes.length; recordCount += 1) {
    const length = Number(bytes.readBigUInt64LE(place));
    const data = bytes.subarray(place + 12, place + 12 + length);
    expect(bytes.readUInt32LE(place + 12 + length)).toBe(maskedCrc(crc32c(data)));
    place += 16 + length;
  }
  return recordCount;
}
