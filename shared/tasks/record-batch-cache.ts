/**
 * Random access to single record batches of Arrow IPC files, with a least-recently-used cache
 * bounded in bytes. Knows nothing of tasks.
 */

import { open, type FileHandle } from 'node:fs/promises';
import {
  RecordBatchReader,
  type AsyncRecordBatchFileReader,
  type RecordBatch,
} from '../formats/arrow.js';
import { LruCache } from '../base/lru-cache.js';
import { checkArrowBlock, checkedArrowBlocks, type ArrowBlock } from './arrow-check.js';

export interface RecordBatchCache {
  batch(fileIndex: number, batchIndex: number): Promise<RecordBatch>;
  /** Opens the file again for the next batch. Batches that were read stay. */
  forget(fileIndex: number): Promise<void>;
  close(): Promise<void>;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly reader: AsyncRecordBatchFileReader;
  readonly blocks: readonly ArrowBlock[];
  /** Reads share one position in the file, so they follow each other. */
  last: Promise<unknown>;
}

export function recordBatchCache(
  pathOf: (fileIndex: number) => Promise<string>,
  byteCountMax: number,
): RecordBatchCache {
  const files = new Map<number, Promise<OpenFile>>();
  const batches = new LruCache<string, Promise<RecordBatch>>({ byteCountMax });

  const fileAt = (fileIndex: number): Promise<OpenFile> => {
    const known = files.get(fileIndex);
    if (known !== undefined) return known;
    const opened = pathOf(fileIndex).then(openFile);
    files.set(fileIndex, opened);
    opened.catch(() => files.delete(fileIndex));
    return opened;
  };

  const read = async (fileIndex: number, batchIndex: number): Promise<RecordBatch> => {
    const file = await fileAt(fileIndex);
    const block = file.blocks[batchIndex];
    if (block === undefined) throw new Error(`there is no record batch ${batchIndex}`);
    const reading = file.last.then(async () => {
      await checkArrowBlock(file.handle, block);
      return file.reader.readRecordBatch(batchIndex);
    });
    file.last = reading.catch(() => null);
    const batch = await reading;
    if (batch === null) throw new Error(`record batch ${batchIndex} cannot be read`);
    return batch;
  };

  return {
    async batch(fileIndex, batchIndex) {
      const key = `${fileIndex}/${batchIndex}`;
      const known = batches.get(key);
      if (known !== undefined) return known;
      // How large it is shows once it is read.
      const reading = read(fileIndex, batchIndex);
      void batches.put(key, reading);
      try {
        const batch = await reading;
        if (batches.get(key) === reading) void batches.put(key, reading, batch.data.byteLength);
        return batch;
      } catch (error) {
        batches.delete(key);
        throw error;
      }
    },
    async forget(fileIndex) {
      const opened = files.get(fileIndex);
      files.delete(fileIndex);
      await closed(await opened?.catch(() => undefined));
    },
    async close() {
      const opened = await Promise.allSettled(files.values());
      files.clear();
      void batches.clear();
      for (const file of opened) if (file.status === 'fulfilled') await closed(file.value);
    },
  };
}

async function closed(file: OpenFile | undefined): Promise<void> {
  await file?.last;
  await file?.handle.close();
}

async function openFile(path: string): Promise<OpenFile> {
  const handle = await open(path, 'r');
  try {
    const blocks = await checkedArrowBlocks(handle);
    const reader = await RecordBatchReader.from(handle);
    await reader.open();
    if (!reader.isFile()) throw new Error('it is not an Arrow IPC file');
    return { handle, reader, blocks, last: Promise.resolve() };
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}
