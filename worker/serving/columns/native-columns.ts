/**
 * Columns of requests by the addon (`native/columns.cc`): texts looked up, bodies taken apart, numbers written;
 * and scored candidates (`native/ranking.cc`).
 */

import type { TextLookups } from './text-lookup.js';

/** As the addon exports them. Arrays are read where they lie, during the call alone. */
export interface ColumnsAddon {
  lookUpValues(
    bytes: Uint8Array,
    spans: Uint32Array,
    dictionaryBytes: Uint8Array,
    dictionaryOffsets: Uint32Array,
    dictionarySlots: Uint32Array,
    count: number,
    target: Int32Array,
    first: number,
    stride: number,
  ): void;
  /**
   * Writes the hash bucket of each text (`id-of-value.ts`).
   *
   * @param keepsKnown leaves places as they are that have another id than 0.
   * @param kernel the place of a kernel among `kernels()`.
   */
  lookUpBuckets(
    bytes: Uint8Array,
    spans: Uint32Array,
    buckets: number,
    count: number,
    keepsKnown: boolean,
    target: Int32Array,
    first: number,
    stride: number,
    kernel: number,
  ): void;
  lookUpKeys(
    bytes: Uint8Array,
    spans: Uint32Array,
    indexHashes: Uint32Array,
    indexBlocks: Int32Array,
    keyBytes: Uint8Array,
    keyOffsets: Uint32Array,
    seed: number,
    blocks: Int32Array,
    hashes: Uint32Array,
  ): void;
  lookUpHashes(
    words: Uint32Array,
    indexHashes: Uint32Array,
    indexBlocks: Int32Array,
    blocks: Int32Array,
  ): void;
  /**
   * Takes candidates in JSON apart (`native/columns.cc`). Returns the number of columns; -1 for a body that is left to a parser.
   *
   * @param words takes the number of candidates, the start and end of their list, and seven words for each column.
   * @param written takes lists of values.
   * @param textByteCountMax of a text in a column.
   */
  scanBody(
    body: Uint8Array,
    words: Int32Array,
    spans: Uint32Array,
    numbers: Float64Array,
    written: Uint8Array,
    textByteCountMax: number,
    candidateCountMax: number,
  ): number;
  /** Writes numbers as JSON has them, with commas between them, and returns where they end. */
  writeNumbers(
    values: Float64Array | Float32Array | Int32Array,
    out: Uint8Array,
    at: number,
  ): number;
  /**
   * Writes the label of each candidate, and its score by the slope and offset of its block's calibration.
   *
   * @param labelCount 1 where all blocks have label 0, which is not read then.
   * @param areProbabilities whether the sigmoid is taken of what is calibrated.
   */
  calibrate(
    blocks: Int32Array,
    scores: Float32Array,
    calibrationsOfBlocks: Int32Array,
    labelsOfBlocks: Int32Array,
    slopes: Float64Array,
    offsets: Float64Array,
    labelCount: number,
    areProbabilities: boolean,
    labels: Int32Array,
    calibrated: Float64Array,
  ): void;
  /**
   * Writes the places of the values that are not below the reserve, from the largest value to the smallest, equal ones as they
   * were. Returns how many there are; -1 less that number where some values are equal.
   */
  order(values: Float64Array, reserve: number, order: Int32Array): number;
}

export function nativeLookups(addon: ColumnsAddon) {
  return {
    ofKeys: ({ hashes: indexHashes, blocks: indexBlocks, keyBytes, keyOffsets, seed }) => ({
      ofTexts: ({ bytes, spans }, blocks, hashes) =>
        addon.lookUpKeys(
          ...([bytes, spans, indexHashes, indexBlocks, keyBytes, keyOffsets, seed] as const),
          ...([blocks, hashes] as const),
        ),
      ofHashes: ({ words }, blocks) => addon.lookUpHashes(words, indexHashes, indexBlocks, blocks),
    }),
    ofValues: ({ dictionary, buckets }) => {
      return ({ bytes, spans }, count, { target, first, stride }) => {
        const places = [target, first, stride] as const;
        if (dictionary !== null) {
          const known = [dictionary.bytes, dictionary.offsets, dictionary.slots] as const;
          addon.lookUpValues(bytes, spans, ...known, count, ...places);
        }
        if (buckets > 0)
          addon.lookUpBuckets(bytes, spans, buckets, count, dictionary !== null, ...places, 0);
      };
    },
  } satisfies TextLookups;
}
