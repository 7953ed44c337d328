/**
 * Damaged Arrow files are refused before the Arrow library sees them. Without the checks, some of them kept it
 * busy for hours, or made it ask for gigabytes.
 */

import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  checkArrowBlock,
  checkArrowBytes,
  checkedArrowBlocks,
} from '../../../shared/tasks/arrow-check.js';
import { decodeTaskCatalog, encodeTaskCatalog } from '../../../shared/tasks/task-catalog.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const tasks = Array.from({ length: 5 }, (_, index) => ({
  ...{ key: `task${index}`, split: 'train' as const, supportRowCount: 3, queryRowCount: 2 },
  ...{ fileIndex: 0, batchIndex: 0, rowOffset: index * 5, firstSeenTime: index },
}));
const file = Buffer.from(encodeTaskCatalog(tasks, tasks));
const footerByteCount = file.readInt32LE(file.length - 10);
const footerStart = file.length - 10 - footerByteCount;

/** The place of the footer's vector of record batches; each is 24 bytes behind its count. */
const blocks = (() => {
  const table = footerStart + file.readInt32LE(footerStart);
  const vtable = table - file.readInt32LE(table);
  const RECORD_BATCHES = 3;
  const field = table + file.readUInt16LE(vtable + 4 + 2 * RECORD_BATCHES);
  return field + file.readInt32LE(field);
})();
const firstBlock = blocks + 4;
const batchStart = Number(file.readBigInt64LE(firstBlock));

function damaged(damage: (copy: Buffer) => unknown): Buffer {
  const copy = Buffer.from(file);
  damage(copy);
  return copy;
}

const DAMAGES: readonly (readonly [string, Buffer, RegExp])[] = [
  [
    'two thousand million record batches',
    damaged((copy) => copy.writeInt32LE(2 ** 31 - 1, blocks)),
    /points outside/,
  ],
  [
    'a start that is not that of a file',
    damaged((copy) => copy.fill(0, 0, 6)),
    /not a whole Arrow IPC file/,
  ],
  [
    'a record batch with more values than bytes',
    damaged((copy) => {
      const rowCount = copy.indexOf(Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]), batchStart);
      copy.writeBigInt64LE(2n ** 40n, rowCount);
    }),
    /1099511627776 values cannot be in/,
  ],
  ['the end missing', file.subarray(0, -1), /not a whole Arrow IPC file/],
  [
    'a footer that is longer than the file',
    damaged((copy) => copy.writeInt32LE(copy.length, copy.length - 10)),
    /its footer cannot have/,
  ],
  [
    'a record batch behind the footer',
    damaged((copy) => copy.writeBigInt64LE(BigInt(copy.length), firstBlock)),
    /lies outside of the file/,
  ],
  [
    'a message of another length',
    damaged((copy) => copy.writeInt32LE(8, batchStart + 4)),
    /the length of a message/,
  ],
];

describe('an Arrow file', () => {
  it('that is whole passes', () => {
    expect(() => checkArrowBytes(file)).not.toThrow();
    expect(decodeTaskCatalog(file).tasks).toHaveLength(5);
  });

  it.each(DAMAGES)('with %s is refused', (_, bytes, message) => {
    expect(() => decodeTaskCatalog(bytes)).toThrow(message);
  });

  it.each(DAMAGES)('with %s is refused, read part by part', async (_, bytes, message) => {
    const folder = await temporaryFolder();
    const path = join(folder.path, 'file.arrow');
    await writeFile(path, bytes);
    const handle = await open(path);
    const check = async (): Promise<void> => {
      for (const block of await checkedArrowBlocks(handle)) await checkArrowBlock(handle, block);
    };
    await expect(check()).rejects.toThrow(message);
    await handle.close();
    await folder.remove();
  });
});
