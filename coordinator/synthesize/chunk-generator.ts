/** One chunk of the log by its index, as CSV or as one member of a gzip file. */

import { spanAt } from '../../shared/base/arrays.js';
import { gzipSync } from 'node:zlib';
import { CsvRowWriter, type ChunkRows, type RowSource } from './csv-rows.js';

/** Fixed, so that gzip bytes and the report's sums depend on nothing but the options. */
export const ROWS_PER_CHUNK = 65_536;

/** A fast level, since the log is large and its digits hardly compress further. */
const GZIP_LEVEL = 1;

export class ChunkGenerator {
  private readonly writer: CsvRowWriter;

  constructor(
    source: RowSource,
    private readonly boundaries: Float64Array,
    private readonly compress: boolean,
  ) {
    this.writer = new CsvRowWriter(source);
  }

  chunk(chunkIndex: number): ChunkRows {
    const chunk = this.writer.rowsBetween(...spanAt(this.boundaries, chunkIndex));
    return this.compress ? { ...chunk, bytes: gzipMember(chunk.bytes) } : chunk;
  }
}

/** Concatenated members form one gzip file (RFC 1952, section 2.2). */
export function gzipMember(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  // A copy with a buffer of its own: small results of gzipSync lie in Node's shared pool.
  return new Uint8Array(gzipSync(bytes, { level: GZIP_LEVEL }));
}
