/**
 * The bytes of TensorBoard's event files: records of one `Event` each (tensorflow/core/util/event.proto). A record
 * is the length of its data (8 bytes), the masked checksum of that length, the data, and their masked checksum.
 */

import { crc32c, maskedCrc } from '../../../shared/formats/crc32c.js';
import { ProtoWriter } from '../../../shared/formats/protobuf.js';
import type { Scalar } from '../feed/scalars.js';

const LENGTH_BYTE_COUNT = 8;
const CRC_BYTE_COUNT = 4;

/** Fields of `Event`. */
const WALL_TIME = 1;
const STEP = 2;
const FILE_VERSION = 3;
const SUMMARY = 5;
const SESSION_LOG = 7;
/** `SessionLog.status`, and its value START. */
const STATUS = 1;
const START = 1;
/** Fields of `Summary` and `Summary.Value`. */
const VALUE = 1;
const TAG = 1;
const SIMPLE_VALUE = 2;

export function recordOf(data: Uint8Array): Uint8Array {
  const record = Buffer.alloc(LENGTH_BYTE_COUNT + CRC_BYTE_COUNT + data.length + CRC_BYTE_COUNT);
  record.writeBigUInt64LE(BigInt(data.length));
  const length = record.subarray(0, LENGTH_BYTE_COUNT);
  record.writeUInt32LE(maskedCrc(crc32c(length)), LENGTH_BYTE_COUNT);
  record.set(data, LENGTH_BYTE_COUNT + CRC_BYTE_COUNT);
  record.writeUInt32LE(maskedCrc(crc32c(data)), record.length - CRC_BYTE_COUNT);
  return record;
}

/**
 * The first records of a file. TensorBoard drops what earlier files have from `outerStep` on, because a
 * resumed run computes it again.
 */
export function openingRecords(epochMs: number, outerStep: number): Uint8Array {
  return Buffer.concat([
    recordOf(eventAt(epochMs, 0).text(FILE_VERSION, 'brain.Event:2').finish()),
    recordOf(
      eventAt(epochMs, outerStep)
        .message(SESSION_LOG, (log) => log.int(STATUS, START))
        .finish(),
    ),
  ]);
}

/** @param scalars of one outer step and time. */
export function scalarRecord(scalars: readonly [Scalar, ...Scalar[]]): Uint8Array {
  const [{ epochMs, outerStep }] = scalars;
  const event = eventAt(epochMs, outerStep).message(SUMMARY, (summary) => {
    for (const { name, value } of scalars)
      summary.message(VALUE, (field) => field.text(TAG, name).float(SIMPLE_VALUE, value));
  });
  return recordOf(event.finish());
}

function eventAt(epochMs: number, outerStep: number): ProtoWriter {
  return new ProtoWriter().double(WALL_TIME, epochMs / 1_000).int(STEP, outerStep);
}
