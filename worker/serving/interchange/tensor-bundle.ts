/**
 * The index of TensorFlow's checkpoint format ("tensor bundle"): a sorted table of one block that says where
 * each tensor lies in the data file. The table has the format of LevelDB.
 */

import { crc32c, maskedCrc } from '../../../shared/formats/crc32c.js';
import { ProtoWriter, varint } from '../../../shared/formats/protobuf.js';

export interface BundledTensor {
  readonly key: string;
  /** TensorFlow's number of the type. */
  readonly type: number;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteCount: number;
  /** Of its bytes, not masked. */
  readonly crc: number;
}

const RESTART_INTERVAL = 16;
const NOT_COMPRESSED = 0;
const FOOTER_BYTE_COUNT = 48;
const MAGIC = 0xdb4775248b80fb57n;

type Entry = readonly [key: Uint8Array, value: Uint8Array];

export function tensorBundleIndex(tensors: readonly BundledTensor[]): Uint8Array {
  const entries: Entry[] = [
    [new Uint8Array(), headerMessage()],
    ...tensors.map((tensor): Entry => [new TextEncoder().encode(tensor.key), entryMessage(tensor)]),
  ];
  entries.sort(([first], [second]) => Buffer.compare(first, second));
  const [lastKey = new Uint8Array()] = entries.at(-1) ?? [];
  const table = new TableFile();
  const data = table.add(blockOf(entries));
  const metaindex = table.add(blockOf([]));
  const index = table.add(blockOf([[lastKey, data]]));
  return table.finish(metaindex, index);
}

/** BundleHeaderProto: one shard, little-endian, version 1. */
function headerMessage(): Uint8Array {
  return new ProtoWriter()
    .int(1, 1)
    .message(3, (version) => version.int(1, 1))
    .finish();
}

/** BundleEntryProto */
function entryMessage({ type, shape, byteOffset, byteCount, crc }: BundledTensor): Uint8Array {
  const message = new ProtoWriter().int(1, type).message(2, (extents) => {
    for (const extent of shape) extents.message(2, (dim) => dim.int(1, extent));
  });
  return message.int(4, byteOffset).int(5, byteCount).fixed32(6, maskedCrc(crc)).finish();
}

/** Entries with the share of the key that they have in common with the one before left out. */
function blockOf(entries: readonly Entry[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  const restarts: number[] = [];
  let byteCount = 0;
  let before: Uint8Array = new Uint8Array();
  for (const [place, [key, value]] of entries.entries()) {
    const isRestart = place % RESTART_INTERVAL === 0;
    if (isRestart) restarts.push(byteCount);
    const shared = isRestart ? 0 : commonLength(before, key);
    const own = key.subarray(shared);
    const entry = [varint(shared), varint(own.length), varint(value.length), own, value];
    for (const piece of entry) byteCount += piece.length;
    pieces.push(...entry);
    before = key;
  }
  if (restarts.length === 0) restarts.push(0);
  const tail = Uint32Array.of(...restarts, restarts.length);
  return Buffer.concat([...pieces, new Uint8Array(tail.buffer)]);
}

function commonLength(a: Uint8Array, b: Uint8Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

class TableFile {
  readonly #pieces: Uint8Array[] = [];
  #byteCount = 0;

  /** @returns the handle of the block: where it lies, and how long it is. */
  add(block: Uint8Array): Uint8Array {
    const handle = Buffer.concat([varint(this.#byteCount), varint(block.length)]);
    const type = Uint8Array.of(NOT_COMPRESSED);
    const crc = maskedCrc(crc32c(type, crc32c(block)));
    const trailer = Buffer.concat([type, new Uint8Array(Uint32Array.of(crc).buffer)]);
    this.#pieces.push(block, trailer);
    this.#byteCount += block.length + trailer.length;
    return handle;
  }

  finish(metaindex: Uint8Array, index: Uint8Array): Uint8Array {
    const footer = new Uint8Array(FOOTER_BYTE_COUNT);
    footer.set(metaindex);
    footer.set(index, metaindex.length);
    new DataView(footer.buffer).setBigUint64(FOOTER_BYTE_COUNT - 8, MAGIC, true);
    return Buffer.concat([...this.#pieces, footer]);
  }
}
