/**
 * Random access to single record batches of Arrow IPC files, with a least-recently-used cache
 * bounded in bytes. Knows nothing of tasks.
 */

import { open, type FileHandle } from 'node:fs/promises';
import { RecordBatchReader, type AsyncRecordBatchFileReader, type RecordBatch } from 'apache-arrow';

export interface RecordBatchCache {
  batch(fileIndex: number, batchIndex: number): Promise<RecordBatch>;
  close(): Promise<void>;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly reader: AsyncRecordBatchFileReader;
  /** Reads share one position in the file, so they follow each other. */
  last: Promise<unknown>;
}

export function recordBatchCache(
  pathOf: (fileIndex: number) => Promise<string>,
  byteCountMax: number,
): RecordBatchCache {
  const files = new Map<number, Promise<OpenFile>>();
  const batches = new Map<string, { batch: Promise<RecordBatch>; byteCount: number }>();
  let byteCount = 0;

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
    const reading = file.last.then(() => file.reader.readRecordBatch(batchIndex));
    file.last = reading.catch(() => null);
    const batch = await reading;
    if (batch === null) throw new Error(`there is no record batch ${batchIndex}`);
    return batch;
  };

  const evict = (): void => {
    for (const [key, entry] of batches) {
      if (byteCount <= byteCountMax) return;
      batches.delete(key);
      byteCount -= entry.byteCount;
    }
  };

  return {
    async batch(fileIndex, batchIndex) {
      const key = `${fileIndex}/${batchIndex}`;
      const known = batches.get(key);
      if (known !== undefined) {
        batches.delete(key);
        batches.set(key, known);
        return known.batch;
      }
      const entry = { batch: read(fileIndex, batchIndex), byteCount: 0 };
      batches.set(key, entry);
      try {
        const batch = await entry.batch;
        if (batches.get(key) === entry && entry.byteCount === 0) {
          entry.byteCount = batch.data.byteLength;
          byteCount += entry.byteCount;
          evict();
        }
        return batch;
      } catch (error) {
        batches.delete(key);
        throw error;
      }
    },
    async close() {
      const opened = await Promise.allSettled(files.values());
      files.clear();
      batches.clear();
      byteCount = 0;
      for (const file of opened)
        if (file.status === 'fulfilled') {
          await file.value.last;
          await file.value.handle.close();
        }
    },
  };
}

async function openFile(path: string): Promise<OpenFile> {
  const handle = await open(path, 'r');
  try {
    const reader = await RecordBatchReader.from(handle);
    await reader.open();
    if (!reader.isFile()) throw new Error('it is not an Arrow IPC file');
    return { handle, reader, last: Promise.resolve() };
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}
