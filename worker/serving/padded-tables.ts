/** Rows of the embedding tables, and means of them for bags. */

import { at, float32At, int32At } from '../../shared/base/arrays.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import { tablesOf, type ScoredField } from './scoring-plan.js';

type IdField = Extract<ScoredField, { source: 'ids' }>;

export class PaddedTables {
  readonly #tables: ReturnType<typeof tablesOf>;
  readonly #isPadded: boolean;
  readonly #hasLinear: boolean;

  constructor(model: Pick<RankingModel, 'spec' | 'tables'>) {
    this.#tables = tablesOf(model);
    this.#isPadded = model.spec.options.padding === 'trained';
    this.#hasLinear = model.spec.hasLinear;
  }

  /**
   * The mean of the rows, an empty place of a bag counting as the last row of its table if that is
   * trained, and not at all otherwise. Writes the vector and returns the linear term.
   */
  meanOf({ table: index, isBag }: IdField, ids: Int32Array, vector: Float64Array): number {
    const { values, width: rowWidth, rowCount } = at(this.#tables, index);
    vector.fill(0);
    let linear = 0;
    let count = 0;
    for (let place = 0; place < ids.length; place += 1) {
      const id = int32At(ids, place);
      const row = id < 0 && isBag && this.#isPadded ? rowCount - 1 : id;
      if (row < 0 && isBag) continue;
      if (row < 0 || row >= rowCount)
        throw new RangeError(`there is no row ${row} among ${rowCount}`);
      count += 1;
      const first = row * rowWidth;
      for (let k = 0; k < vector.length; k += 1)
        vector[k] = (vector[k] ?? NaN) + (values[first + k] ?? NaN);
      if (this.#hasLinear) linear += float32At(values, first + rowWidth - 1);
    }
    if (count < 2) return linear;
    for (let k = 0; k < vector.length; k += 1) vector[k] = (vector[k] ?? NaN) / count;
    return linear / count;
  }
}
