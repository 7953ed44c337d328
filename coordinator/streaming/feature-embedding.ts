/**
 * The embedding P of features, learned on prior rows without their labels. It tells which features occur
 * together. The method is regularised correspondence analysis: with X the rows by features (0 or 1) and
 * D the number of times a feature was seen, P holds the leading right singular vectors of
 * `X (D + tau)^-1/2`, found by subspace iteration. tau keeps rare features, which occur together by
 * chance, from forming axes of their own (as in regularised spectral clustering). The first axis only
 * tells how frequent a feature is and is left out.
 */

import { at, float32At, float64At, int32At, uint8At } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { rowCountOf, type StreamRows } from '../../shared/streaming/stream-rows.js';

const PLACED = 1;
const LEFT_OUT = 2;

interface EmbeddingSettings {
  readonly seed: number;
  readonly rank: number;
  /** The slots whose features make the axes. */
  readonly slots: readonly number[];
  /** True if features of the other slots are placed along these axes; they are 0 otherwise. */
  readonly placesOthers: boolean;
  readonly priorRowCount: number;
  readonly sweepCount: number;
  /** The constant tau, in rows. */
  readonly rareRows: number;
}

/**
 * P, `[featureCount, rank]`, scaled so that each axis of a row, which is the sum over its features, is
 * about 1 in size. A feature that did not form the axes is placed at its first row (the mean of the
 * row's placed features), which is known when that row is predicted.
 */
export function featureEmbedding(rows: StreamRows, settings: EmbeddingSettings): Float32Array {
  const { rank } = settings;
  const embedding = new Float32Array(rows.featureCount * rank);
  if (rank === 0) return embedding;
  const counts = priorCounts(rows, settings);
  const columns = subspace(rows, settings, counts);
  const placed = new Uint8Array(rows.featureCount);
  const featuresPerRow = settings.placesOthers
    ? int32At(rows.rowStarts, settings.priorRowCount) / settings.priorRowCount
    : counts.reduce((sum, count) => sum + count, 0) / settings.priorRowCount;
  const scales = columns.map(
    (column) => scaleOf(column, counts, settings.rareRows) / featuresPerRow,
  );
  for (let feature = 0; feature < rows.featureCount; feature += 1) {
    const count = float64At(counts, feature);
    if (count === 0) continue;
    placed[feature] = PLACED;
    for (const [axis, column] of columns.entries())
      embedding[feature * rank + axis] =
        (float64At(column, feature) * at(scales, axis)) / Math.sqrt(count + settings.rareRows);
  }
  if (!settings.placesOthers) {
    const slots = new Set(settings.slots);
    for (const [feature, slot] of rows.slotOfFeature.entries())
      if (!slots.has(slot)) placed[feature] = LEFT_OUT;
  }
  placeLater(rows, rank, embedding, placed);
  return embedding;
}

/** The number of prior rows that have each feature of the chosen slots; 0 for all other features. */
function priorCounts(rows: StreamRows, settings: EmbeddingSettings): Float64Array {
  const counts = new Float64Array(rows.featureCount);
  const chosen = new Set(settings.slots);
  const end = int32At(rows.rowStarts, settings.priorRowCount);
  for (let at = 0; at < end; at += 1) {
    const feature = int32At(rows.features, at);
    if (chosen.has(uint8At(rows.slotOfFeature, feature)))
      counts[feature] = float64At(counts, feature) + 1;
  }
  return counts;
}

/** The second to last of `rank + 1` leading singular vectors, `[featureCount]` each. */
function subspace(
  rows: StreamRows,
  settings: EmbeddingSettings,
  counts: Float64Array,
): Float64Array[] {
  const stream = randomStream(settings.seed, 'feature-embedding');
  const scale = counts.map((count) => (count === 0 ? 0 : 1 / Math.sqrt(count + settings.rareRows)));
  let columns: Float64Array[] = Array.from({ length: settings.rank + 1 }, (_, axis) =>
    counts.map((count) => (count === 0 ? 0 : axis === 0 ? Math.sqrt(count) : stream.normal())),
  );
  orthonormalise(columns);
  for (let sweep = 0; sweep < settings.sweepCount; sweep += 1) {
    columns = columns.map((column) => throughRows(rows, settings.priorRowCount, scale, column));
    orthonormalise(columns);
  }
  return columns.slice(1);
}

/** `S X^T X S column` with S the diagonal of `scale`. */
function throughRows(
  rows: StreamRows,
  rowCount: number,
  scale: Float64Array,
  column: Float64Array,
): Float64Array {
  const result = new Float64Array(column.length);
  const scaled = column.map((value, feature) => value * float64At(scale, feature));
  for (let row = 0; row < rowCount; row += 1) {
    const start = int32At(rows.rowStarts, row);
    const end = int32At(rows.rowStarts, row + 1);
    let sum = 0;
    for (let at = start; at < end; at += 1) sum += float64At(scaled, int32At(rows.features, at));
    for (let at = start; at < end; at += 1) {
      const feature = int32At(rows.features, at);
      result[feature] = float64At(result, feature) + sum;
    }
  }
  return result.map((value, feature) => value * float64At(scale, feature));
}

/** Modified Gram-Schmidt, in place. */
function orthonormalise(columns: readonly Float64Array[]): void {
  for (const [axis, column] of columns.entries()) {
    for (const earlier of columns.slice(0, axis)) {
      const shared = dot(column, earlier);
      for (let i = 0; i < column.length; i += 1)
        column[i] = float64At(column, i) - shared * float64At(earlier, i);
    }
    const norm = Math.sqrt(dot(column, column));
    if (norm > 0)
      for (let i = 0; i < column.length; i += 1) column[i] = float64At(column, i) / norm;
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += float64At(a, i) * float64At(b, i);
  return sum;
}

/** Makes the mean square of `column / sqrt(count + tau)` over occurrences 1. */
function scaleOf(column: Float64Array, counts: Float64Array, rareRows: number): number {
  let squares = 0;
  let occurrences = 0;
  for (let feature = 0; feature < counts.length; feature += 1) {
    const count = float64At(counts, feature);
    squares += (count * float64At(column, feature) ** 2) / (count + rareRows);
    occurrences += count;
  }
  return squares === 0 ? 0 : Math.sqrt(occurrences / squares);
}

/** Places every feature that has no place yet at its first row. */
function placeLater(
  rows: StreamRows,
  rank: number,
  embedding: Float32Array,
  placed: Uint8Array,
): void {
  const mean = new Float64Array(rank);
  for (let row = 0; row < rowCountOf(rows); row += 1) {
    const start = int32At(rows.rowStarts, row);
    const end = int32At(rows.rowStarts, row + 1);
    let placedCount = 0;
    mean.fill(0);
    for (let at = start; at < end; at += 1) {
      const feature = int32At(rows.features, at);
      if (placed[feature] !== PLACED) continue;
      placedCount += 1;
      for (let axis = 0; axis < rank; axis += 1)
        mean[axis] = float64At(mean, axis) + float32At(embedding, feature * rank + axis);
    }
    if (placedCount === 0 || placedCount === end - start) continue;
    for (let at = start; at < end; at += 1) {
      const feature = int32At(rows.features, at);
      if (placed[feature] !== 0) continue;
      placed[feature] = PLACED;
      for (let axis = 0; axis < rank; axis += 1)
        embedding[feature * rank + axis] = float64At(mean, axis) / placedCount;
    }
  }
}
