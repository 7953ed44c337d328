/**
 * Embeddings of films as the trained generator produces them, to be written into the ID table
 * before the warm-up. This is plain arithmetic, separate from that of the workers, which predict
 * the cold phase.
 */

import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type { EmbeddingTable } from '../../../shared/tensors/embedding-table.js';
import { GENRES_LENGTH_MAX, TITLE_LENGTH_MAX, type FilmAttributes } from './movielens-files.js';

/** The generator's bound on an element (`shared/methods/meta-embedding.ts`). */
const ELEMENT_MAX = 1 / 5;

/** The parameters with generated rows for these films; the given parameters are not changed. */
export function withGeneratedRows(
  base: MetaParameters,
  generatorWeight: Float32Array,
  films: ReadonlyMap<number, FilmAttributes>,
  filmIds: readonly number[],
): MetaParameters {
  const table = tableOf(base, 'film');
  const values = new Float32Array(table.values);
  for (const filmId of filmIds) {
    const attributes = films.get(filmId);
    if (attributes === undefined) throw new Error(`film ${filmId} is unknown`);
    values.set(generatedRow(base, generatorWeight, attributes), filmId * table.width);
  }
  return { ...base, tables: new Map(base.tables).set('film', { ...table, values }) };
}

/** tanh(W [year; mean title; mean genres]) / 5; empty positions of the means hold row 0. */
function generatedRow(
  base: MetaParameters,
  weight: Float32Array,
  { year, title, genres }: FilmAttributes,
): Float32Array {
  const { width } = tableOf(base, 'film');
  const inputs = [
    ...meanRow(tableOf(base, 'year'), [year], 1),
    ...meanRow(tableOf(base, 'title'), title, TITLE_LENGTH_MAX),
    ...meanRow(tableOf(base, 'genres'), genres, GENRES_LENGTH_MAX),
  ];
  return Float32Array.from({ length: width }, (_, column) => {
    let sum = 0;
    for (const [place, input] of inputs.entries())
      sum += input * (weight[place * width + column] ?? 0);
    return Math.tanh(sum) * ELEMENT_MAX;
  });
}

function meanRow(table: EmbeddingTable, ids: readonly number[], length: number): number[] {
  const { width, values } = table;
  const padded = Array.from({ length }, (_, place) => ids[place] ?? 0);
  return Array.from({ length: width }, (_, column) => {
    const sum = padded.reduce((total, id) => total + (values[id * width + column] ?? 0), 0);
    return sum / length;
  });
}

function tableOf({ tables }: MetaParameters, name: string): EmbeddingTable {
  const table = tables.get(name);
  if (table === undefined) throw new Error(`the model has no table ${name}`);
  return table;
}
