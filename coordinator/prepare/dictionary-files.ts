/**
 * Writes the dictionaries of a store: the value of each id, null for id 0 and for ids of unseen values, in parts. Finds values in
 * them that differ only in case or spaces, by which a column that was written by hand gives itself away.
 */

import {
  Field,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from '../../shared/storage/arrow.js';
import { dictionaryFileOf } from '../../shared/tasks/task-catalog.js';
import { writeArrowFile, type StoreFile } from './row-file-writer.js';
import { DuckDBBlobValue, type DuckSession } from '../logs/duckdb-session.js';
import { unseenBucketsOf } from '../../shared/tasks/store-manifest.js';
import type { FeatureEncoding } from './feature-encoding.js';

const VALUES_PER_BATCH = 65_536;

export async function writeDictionaries(
  folder: string,
  encodings: readonly FeatureEncoding[],
  session: DuckSession,
): Promise<StoreFile[]> {
  const files: StoreFile[] = [];
  for (const { feature, dictionaryTable } of encodings)
    if (dictionaryTable !== null)
      files.push(
        await writeDictionary(
          folder,
          {
            ...{ name: dictionaryFileOf(feature.name), table: dictionaryTable },
            withoutValue: 1 + unseenBucketsOf(feature),
          },
          session,
        ),
      );
  return files;
}

interface DictionaryFile {
  readonly name: string;
  readonly table: string;
  /** Values of earlier ids are in other files. */
  readonly firstId?: number;
  /** The number of ids that the file begins with and that have no value. */
  readonly withoutValue?: number;
}

export async function writeDictionary(
  folder: string,
  { name, table, firstId = 0, withoutValue = 0 }: DictionaryFile,
  session: DuckSession,
): Promise<StoreFile> {
  const schema = new Schema([new Field('value', new Utf8(), true)]);
  return writeArrowFile(folder, name, schema, async (file) => {
    let values = Array.from({ length: withoutValue }, (): string | null => null);
    const flush = async (): Promise<void> => {
      await file.write(batchOf(values, schema));
      values = [];
    };
    // Read as bytes, since texts of the client lose a byte order mark at their start.
    const newValues = `${table} WHERE id >= ${firstId}`;
    const inOrder = `SELECT encode(CAST(value AS VARCHAR)) FROM ${newValues} ORDER BY id`;
    for await (const chunk of session.chunks(inOrder, await session.count(newValues))) {
      for (const value of chunk.getColumnValues(0)) values.push(textOf(value));
      if (values.length >= VALUES_PER_BATCH) await flush();
    }
    if (values.length > 0) await flush();
  });
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function textOf(value: unknown): string {
  if (!(value instanceof DuckDBBlobValue)) throw new Error('a value of a dictionary has no bytes');
  return decoder.decode(value.bytes);
}

function batchOf(values: readonly (string | null)[], schema: Schema): RecordBatch {
  const [child] = vectorFromArray(values, new Utf8()).data;
  if (child === undefined) throw new Error('Arrow made no data of a dictionary');
  return new RecordBatch(
    schema,
    makeData({
      type: new Struct(schema.fields),
      length: values.length,
      nullCount: 0,
      children: [child],
    }),
  );
}
