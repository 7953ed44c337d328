/**
 * Apache Arrow, from the one file that the package has beside its hundred and fifty modules, which take a
 * tenth of a second of the processor to load: as long as a short command computes.
 */

import { createRequire } from 'node:module';
import type * as apacheArrow from 'apache-arrow';

const arrow = createRequire(import.meta.url)('apache-arrow/Arrow.esnext.min') as typeof apacheArrow;

export const {
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  Schema,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Uint8,
  Utf8,
  vectorFromArray,
} = arrow;

export type Field = apacheArrow.Field;
export type Float64 = apacheArrow.Float64;
export type Int32 = apacheArrow.Int32;
export type RecordBatch = apacheArrow.RecordBatch;
export type Schema = apacheArrow.Schema;
export type Utf8 = apacheArrow.Utf8;
export type { AsyncRecordBatchFileReader, Data, Vector } from 'apache-arrow';
