/**
 * The blobs of a rule-gradient job, in safetensors layout. With F features that the pair touches, R rows
 * and N occurrences of features in them:
 *
 *   phi       `parameters`     F64 `[length of phi]`
 *   the pair  `times`          F64 `[R]`, in days
 *             `state`          F64 `[F, STATE_WIDTH]`, before the first row
 *             `shared`         F64 `[rank]`, and `sharedTime` F64 `[1]`
 *             `embedding`      F32 `[F, rank]`
 *             `rowStarts`      I32 `[R + 1]`, `features` I32 `[N]`, `oldRowCount` I32 `[1]`
 *             `slotOfFeature`  U8  `[F]`, `clicks` U8 `[R]`
 *   output    `gradient`       F64 `[length of phi]`
 *
 * Values may be NaN or infinite, which a rule that diverges computes; who computes with them says so.
 */

import { float64At, int32At, uint8At } from '../base/arrays.js';
import { QianmoError } from '../base/errors.js';
import {
  encodeTensors,
  viewTensors,
  type CodedTensor,
  type TensorValues,
} from '../tensors/tensor-codec.js';
import { STATE_WIDTH } from './learned-update.js';
import { layoutOf } from './learned-update-parameters.js';
import type { LearnedRuleShape } from './rule-settings.js';
import type { WindowPair } from './rule-tape.js';
import { rowCountOf, type StreamRows } from './stream-rows.js';

export function encodeWindowPair({ rows, oldRowCount, embedding, state }: WindowPair): Uint8Array {
  // The widest elements come first, so that a reader can view all of them in place.
  const rowCount = rowCountOf(rows);
  const { featureCount } = rows;
  const rank = state.shared.length;
  return encodeTensors(
    new Map<string, CodedTensor>([
      ['times', { shape: [rowCount], values: rows.times }],
      ['state', { shape: [featureCount, STATE_WIDTH], values: state.features }],
      ['shared', { shape: [rank], values: state.shared }],
      ['sharedTime', { shape: [1], values: Float64Array.of(state.sharedTime) }],
      ['embedding', { shape: [featureCount, rank], values: embedding }],
      ['rowStarts', { shape: [rowCount + 1], values: rows.rowStarts }],
      ['features', { shape: [rows.features.length], values: rows.features }],
      ['oldRowCount', { shape: [1], values: Int32Array.of(oldRowCount) }],
      ['slotOfFeature', { shape: [featureCount], values: rows.slotOfFeature }],
      ['clicks', { shape: [rowCount], values: rows.clicks }],
    ]),
  );
}

/**
 * Views the bytes where their place in memory allows it; they must not change as long as the pair is used.
 *
 * @throws QianmoError of kind `data` if the bytes are no pair for a rule of this shape.
 */
export function decodeWindowPair(
  bytes: Uint8Array,
  shape: LearnedRuleShape,
  where: string,
): WindowPair {
  const parts = partsOf(bytes, where);
  const { times, clicks } = {
    times: parts.take('times', Float64Array),
    clicks: parts.take('clicks', Uint8Array),
  };
  const slotOfFeature = parts.take('slotOfFeature', Uint8Array);
  const rowStarts = parts.take('rowStarts', Int32Array);
  const features = parts.take('features', Int32Array);
  const embedding = parts.take('embedding', Float32Array);
  const stateOfFeatures = parts.take('state', Float64Array);
  const shared = parts.take('shared', Float64Array);
  const sharedTime = parts.take('sharedTime', Float64Array);
  const oldRowCount = parts.take('oldRowCount', Int32Array);
  parts.requireNoOther();
  const { slotCount, rank } = shape;
  const [rowCount, featureCount] = [clicks.length, slotOfFeature.length];
  parts.requireLengths([
    ['times', times, rowCount],
    ['rowStarts', rowStarts, rowCount + 1],
    ['embedding', embedding, featureCount * rank],
    ['state', stateOfFeatures, featureCount * STATE_WIDTH],
    ['shared', shared, rank],
    ['sharedTime', sharedTime, 1],
    ['oldRowCount', oldRowCount, 1],
  ]);
  const rows: StreamRows = {
    ...{ slotCount, featureCount, slotOfFeature, rowStarts, features, clicks, times },
  };
  const fault = faultOf(rows) ?? faultOfBoundary(int32At(oldRowCount, 0), rowCount);
  if (fault !== null) throw parts.misfit(fault);
  return {
    rows,
    oldRowCount: int32At(oldRowCount, 0),
    embedding,
    state: { features: stateOfFeatures, shared, sharedTime: float64At(sharedTime, 0) },
  };
}

export function encodeRuleParameters(parameters: Float64Array): Uint8Array {
  return encodeVector('parameters', parameters);
}

/** @throws QianmoError of kind `data` if the bytes are no phi of this shape. */
export function decodeRuleParameters(
  bytes: Uint8Array,
  shape: LearnedRuleShape,
  where: string,
): Float64Array {
  return decodeVector('parameters', bytes, shape, where);
}

/** The result of a rule-gradient job. */
export interface RuleGradient {
  /** `[length of phi]` */
  readonly gradient: Float64Array;
  /** The logloss summed over the rows of the new window. */
  readonly lossSum: number;
}

export function encodeRuleGradient({ gradient, lossSum }: RuleGradient): Uint8Array {
  return encodeTensors(
    new Map([
      ['gradient', { shape: [gradient.length], values: gradient }],
      ['loss', { shape: [1], values: Float64Array.of(lossSum) }],
    ]),
  );
}

/** @throws QianmoError of kind `data` if the bytes are no gradient of a phi of this shape. */
export function decodeRuleGradient(
  bytes: Uint8Array,
  shape: LearnedRuleShape,
  where: string,
): RuleGradient {
  const parts = partsOf(bytes, where);
  const gradient = parts.take('gradient', Float64Array);
  const loss = parts.take('loss', Float64Array);
  parts.requireNoOther();
  parts.requireLengths([
    ['gradient', gradient, layoutOf(shape).length],
    ['loss', loss, 1],
  ]);
  return { gradient, lossSum: loss[0] ?? NaN };
}

function encodeVector(name: string, values: Float64Array): Uint8Array {
  return encodeTensors(new Map([[name, { shape: [values.length], values }]]));
}

function decodeVector(
  name: string,
  bytes: Uint8Array,
  shape: LearnedRuleShape,
  where: string,
): Float64Array {
  const parts = partsOf(bytes, where);
  const values = parts.take(name, Float64Array);
  parts.requireNoOther();
  parts.requireLengths([[name, values, layoutOf(shape).length]]);
  return values;
}

/** The rule that rows of a pair break, so that an index would leave its array; null if they break none. */
function faultOf(rows: StreamRows): string | null {
  const { slotCount, featureCount, slotOfFeature, rowStarts, features, clicks, times } = rows;
  if (int32At(rowStarts, 0) !== 0) return `rows that begin at ${int32At(rowStarts, 0)}`;
  for (let row = 0; row < clicks.length; row += 1) {
    if (int32At(rowStarts, row + 1) < int32At(rowStarts, row))
      return `row ${row} ends before it begins`;
    if (uint8At(clicks, row) > 1) return `row ${row} with ${uint8At(clicks, row)} clicks`;
    const time = float64At(times, row);
    if (!Number.isFinite(time)) return `row ${row} at time ${time}`;
    if (row > 0 && time < float64At(times, row - 1))
      return `row ${row} earlier than the row before it`;
  }
  const end = int32At(rowStarts, clicks.length);
  if (end !== features.length) return `rows of ${end} features, and ${features.length} features`;
  for (let at = 0; at < features.length; at += 1) {
    const feature = int32At(features, at);
    if (feature < 0 || feature >= featureCount) return `feature ${feature} of ${featureCount}`;
  }
  for (let feature = 0; feature < featureCount; feature += 1) {
    const slot = uint8At(slotOfFeature, feature);
    if (slot >= slotCount) return `slot ${slot} of ${slotCount}`;
  }
  return null;
}

function faultOfBoundary(oldRowCount: number, rowCount: number): string | null {
  if (oldRowCount >= 1 && oldRowCount < rowCount) return null;
  return `an old window of ${oldRowCount} of ${rowCount} rows`;
}

interface Parts {
  /** The values of a tensor that must be there with this type. */
  take<Values extends TensorValues>(name: string, type: new (length: number) => Values): Values;
  requireNoOther(): void;
  requireLengths(lengths: readonly (readonly [string, TensorValues, number])[]): void;
  misfit(found: string): QianmoError;
}

function partsOf(bytes: Uint8Array, where: string): Parts {
  const tensors = viewTensors(bytes, where);
  const misfit = (found: string): QianmoError =>
    new QianmoError({
      kind: 'data',
      what: 'these tensors are not those of a rule-gradient job',
      where,
      found,
      cure: 'coordinator and worker must run the same version',
    });
  return {
    misfit,
    take: (name, type) => {
      const values = tensors.get(name)?.values;
      tensors.delete(name);
      if (values instanceof type) return values;
      throw misfit(values === undefined ? `no ${name}` : `${name} of another type`);
    },
    requireNoOther: () => {
      const [other] = tensors.keys();
      if (other !== undefined) throw misfit(`${other}, which is unknown`);
    },
    requireLengths: (lengths) => {
      for (const [name, values, length] of lengths)
        if (values.length !== length)
          throw misfit(`${name} with ${values.length} values, not ${length}`);
    },
  };
}
