/** Raw columns of a request as the scorer reads them: what the context has alone is encoded into it once. */

import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import type { EncodedRows } from '../../../shared/features/encoded-rows.js';
import type { RawRow } from '../../../shared/features/values/raw-row.js';
import { requestLayoutOf, type FeaturePlace, type RankingRequest } from '../ranking-request.js';
import { RefusedRequest, refusedValue } from './refused-request.js';
import { KEY_SEPARATOR, type RankingBody } from './ranking-body.js';

interface EncodedRequest {
  readonly contextFeatures: readonly string[];
  readonly request: RankingRequest;
}

type EncodingBundle = Pick<LoadedBundle, 'manifest' | 'model' | 'index' | 'encoder'>;

/** @throws RefusedRequest if a column is missing, comes twice, or holds what `prepare` rejects. */
export function encodedRequestOf(bundle: EncodingBundle, body: RankingBody): EncodedRequest {
  const { manifest, index } = bundle;
  const ofCandidates = new Set([...body.candidateColumns, ...manifest.taskColumns]);
  const twice = Object.keys(body.context).find((name) => ofCandidates.has(name));
  if (twice !== undefined)
    throw new RefusedRequest({
      reason: 'wrong-value',
      what: `the context has a column that the candidates have: "${twice}"`,
      where: `context.${twice}`,
      cure: 'give each column once: to the context or to the candidates',
    });
  const contextFeatures = contextFeaturesOf(manifest.features, body.context);
  const rows = encodedRows(bundle, body);
  const blocks = Int32Array.from(body.keys, (key) => blockOfKey(index, key));
  return { contextFeatures, request: requestOf(bundle.model, { contextFeatures, rows, blocks }) };
}

/**
 * Features that read a column of the context. One that is an expression may read columns of both, so
 * that it counts as the candidates'.
 */
function contextFeaturesOf(
  features: EncodingBundle['manifest']['features'],
  context: RawRow,
): string[] {
  return features.flatMap((feature) => {
    const isExpression = feature.kind !== 'bag' && feature.expression !== undefined;
    return !isExpression && Object.hasOwn(context, feature.column ?? feature.name)
      ? [feature.name]
      : [];
  });
}

function encodedRows({ manifest, encoder }: EncodingBundle, body: RankingBody): EncodedRows {
  const { taskColumns } = manifest;
  const rows = encoder.allocate(body.keys.length);
  for (const [candidate, key] of body.keys.entries()) {
    const parts = taskColumns.length === 1 ? [key] : key.split(KEY_SEPARATOR);
    if (parts.length !== taskColumns.length)
      throw new RefusedRequest({
        reason: 'wrong-value',
        what: 'the key of an adgroup has another number of columns',
        where: `candidate ${candidate}`,
        expected: `a list of ${taskColumns.length} values: ${taskColumns.join(', ')}`,
        found: `${parts.length} values`,
      });
    const ofKey = Object.fromEntries(taskColumns.map((name, place) => [name, parts[place]]));
    const row = { ...ofKey, ...body.context, ...body.rowOf(candidate) };
    try {
      // Values that the encoder cannot compute come under the names of their features.
      encoder.encodeInto(rows, candidate, row, row);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      throw refusedValue(error, `candidate ${candidate}`);
    }
  }
  return rows;
}

interface SplitRows {
  readonly contextFeatures: readonly string[];
  readonly rows: EncodedRows;
  readonly blocks: Int32Array;
}

/** Encoded rows of one context, taken apart into the context and the candidates. */
export function requestOf(
  { spec }: Pick<EncodingBundle['model'], 'spec'>,
  { contextFeatures, rows, blocks }: SplitRows,
): RankingRequest {
  const { rowCount } = rows;
  const layout = requestLayoutOf(spec, contextFeatures);
  const { idCounts, numberCounts } = layout;
  const request: RankingRequest = {
    candidateCount: rowCount,
    blocks,
    contextIds: new Int32Array(idCounts.context),
    candidateIds: new Int32Array(rowCount * idCounts.candidate),
    contextNumbers: new Float32Array(numberCounts.context),
    candidateNumbers: new Float32Array(rowCount * numberCounts.candidate),
  };
  const categoryCount = spec.categoryFeatures.length;
  for (const [place, feature] of layout.ids.entries()) {
    const isBag = place >= categoryCount;
    const ids = isBag ? at(rows.bagIds, place - categoryCount) : at(rows.categoryIds, place);
    if (feature.side === 'candidate')
      spread(ids, request.candidateIds, feature, idCounts.candidate);
    else request.contextIds.set(firstOf(ids, feature), feature.firstPlace);
  }
  for (const [place, feature] of layout.numbers.entries()) {
    const numbers = at(rows.numbers, place);
    if (feature.side === 'candidate')
      spread(numbers, request.candidateNumbers, feature, numberCounts.candidate);
    else request.contextNumbers.set(firstOf(numbers, feature), feature.firstPlace);
  }
  return request;
}

/** The values of the first row; none if there is no row. */
function firstOf<Values extends Int32Array | Float32Array>(
  values: Values,
  { placeCount }: FeaturePlace,
): Values {
  return values.subarray(0, placeCount) as Values;
}

function spread(
  values: Int32Array | Float32Array,
  target: Int32Array | Float32Array,
  { firstPlace, placeCount }: FeaturePlace,
  stride: number,
): void {
  const rowCount = values.length / placeCount;
  for (let row = 0; row < rowCount; row += 1)
    for (let place = 0; place < placeCount; place += 1)
      target[row * stride + firstPlace + place] = values[row * placeCount + place] ?? NaN;
}
