/** Requests whose contexts and adgroups were encoded ahead, written into one request that is used again. */

import type { EncodedRows } from '../../shared/features/encoded-rows.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  requestLayoutOf,
  type FeaturePlace,
  type RankingRequest,
  type RequestLayout,
  type Side,
} from './ranking-request.js';

interface AheadRows {
  readonly contextFeatures: readonly string[];
  /** One row for each context, and one for each adgroup; the features of the other side do not count. */
  readonly contexts: EncodedRows;
  readonly adgroups: EncodedRows;
}

interface ReusedRequest extends RankingRequest {
  candidateCount: number;
}

/** Covers category and number features. */
export class EncodedAhead {
  readonly #rows: AheadRows;
  readonly #layout: RequestLayout;
  readonly #request: ReusedRequest;

  constructor(spec: ModelSpec, rows: AheadRows, candidatesMax: number) {
    if (spec.bagFeatures.length > 0) throw new Error('bags are not encoded ahead');
    this.#rows = rows;
    this.#layout = requestLayoutOf(spec, rows.contextFeatures);
    const { idCounts, numberCounts } = this.#layout;
    this.#request = {
      candidateCount: 0,
      blocks: new Int32Array(candidatesMax),
      contextIds: new Int32Array(idCounts.context),
      candidateIds: new Int32Array(candidatesMax * idCounts.candidate),
      contextNumbers: new Float32Array(numberCounts.context),
      candidateNumbers: new Float32Array(candidatesMax * numberCounts.candidate),
    };
  }

  /** @returns a request that is valid until the next call: adgroup a has block `a + 1`. */
  request(context: number, adgroups: Uint32Array): RankingRequest {
    const request = this.#request;
    request.candidateCount = adgroups.length;
    for (let place = 0; place < adgroups.length; place += 1)
      request.blocks[place] = (adgroups[place] ?? NaN) + 1;
    const { ids, numbers, idCounts, numberCounts } = this.#layout;
    const { contexts, adgroups: ofAdgroups } = this.#rows;
    const fill = (
      features: readonly FeaturePlace[],
      counts: Readonly<Record<Side, number>>,
      source: (rows: EncodedRows) => readonly (Int32Array | Float32Array)[],
      target: Readonly<Record<Side, Int32Array | Float32Array>>,
    ): void => {
      for (const [feature, { side, firstPlace }] of features.entries()) {
        const values = source(side === 'context' ? contexts : ofAdgroups)[feature];
        if (values === undefined) throw new Error('the rows have other features than the model');
        if (side === 'context') target.context[firstPlace] = values[context] ?? NaN;
        else
          for (let place = 0; place < adgroups.length; place += 1)
            target.candidate[place * counts.candidate + firstPlace] =
              values[adgroups[place] ?? NaN] ?? NaN;
      }
    };
    fill(ids, idCounts, (rows) => rows.categoryIds, {
      context: request.contextIds,
      candidate: request.candidateIds,
    });
    fill(numbers, numberCounts, (rows) => rows.numbers, {
      context: request.contextNumbers,
      candidate: request.candidateNumbers,
    });
    return request;
  }
}
