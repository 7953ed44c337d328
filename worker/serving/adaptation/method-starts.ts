/**
 * The blocks that a method starts an adgroup from, which `encoder` and `paml-gate` make of its support rows: the
 * formulas are in `shared/methods`.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { denseOf } from '../scoring-plan.js';
import {
  addTimes,
  attributesOf,
  embeddedRows,
  joined,
  toTanh,
  type AdaptingAdgroup,
} from './adapting-adgroup.js';
import type { CoveredMethod } from './covered-methods.js';
import type { MovingBlocks } from './support-rows.js';

type MethodOf<Kind extends CoveredMethod['kind']> = Extract<CoveredMethod, { kind: Kind }>;

export function startOf(adgroup: AdaptingAdgroup, method: CoveredMethod): MovingBlocks {
  switch (method.kind) {
    case 'encoder':
      return shifted(adgroup, taskEncoding(adgroup, method));
    case 'paml-gate':
      return gated(adgroup, preference(adgroup, method));
    case 'cavia':
      return startBy(adgroup, (_, values) => new Float64Array(values.length));
    default:
      return startBy(adgroup, (_, values) => Float64Array.from(values));
  }
}

function startBy(
  { model }: AdaptingAdgroup,
  valuesOf: (name: string, shared: Float32Array) => Float64Array,
): MovingBlocks {
  return new Map(
    [...model.sharedStart].map(([name, { values }]) => [name, valuesOf(name, values)]),
  );
}

/** The share of a row below which its label counts as that of a row with this share. */
const SHARE_MIN = 1e-12;

/** t_i of `shared/methods/encoder.ts`, `[taskWidth]`. */
function taskEncoding(
  adgroup: AdaptingAdgroup,
  { features, linearWeights, rowWidth, taskWidth }: MethodOf<'encoder'>,
): Float64Array {
  const { model, rows, evidence, addProduct } = adgroup;
  const { impressionShares, standardisedShares, size, level } = evidence;
  const rowCount = rows.candidateCount;
  const hasLinear = linearWeights !== false;
  const fields = embeddedRows(adgroup, { names: features, rowCount, hasLinear });
  const bias = denseOf(model, 'encoder.row.bias');
  const weights = Float64Array.from(denseOf(model, 'encoder.row.weight'));
  const encoded = new Float64Array(rowCount * rowWidth).map((_, place) =>
    at(bias, place % rowWidth),
  );
  addProduct({
    ...{ first: fields.values, second: weights, target: encoded },
    ...{ rows: rowCount, inner: fields.width, columns: rowWidth },
  });
  const labels = standardisedShares.map(
    (share, row) => share / Math.max(float64At(impressionShares, row), SHARE_MIN),
  );
  addProduct({
    ...{ first: labels, second: weights.subarray(fields.width * rowWidth), target: encoded },
    ...{ rows: rowCount, inner: 1, columns: rowWidth },
  });
  const pooled = new Float64Array(rowWidth);
  addProduct({
    ...{ first: impressionShares, second: toTanh(encoded), target: pooled },
    ...{ rows: 1, inner: rowCount, columns: rowWidth },
  });
  const sums = new Float64Array(taskWidth);
  addTimes(adgroup, joined(pooled, [size + 1, level]), 'encoder.task.weight', sums);
  return toTanh(sums);
}

function shifted(adgroup: AdaptingAdgroup, encoding: Float64Array): MovingBlocks {
  return startBy(adgroup, (name, shared) => {
    const block = Float64Array.from(shared);
    addTimes(adgroup, encoding, `encoder.shift/${name}`, block);
    return block;
  });
}

/** p_i of `shared/methods/paml-gate.ts`, `[preferenceWidth]`. */
function preference(
  adgroup: AdaptingAdgroup,
  { features, attributes }: MethodOf<'paml-gate'>,
): Float64Array {
  const { model, rows, evidence, addProduct } = adgroup;
  const { impressionShares, standardisedShares, size, level } = evidence;
  const rowCount = rows.candidateCount;
  const fields = embeddedRows(adgroup, { names: features, rowCount, hasLinear: true });
  const pooled = new Float64Array(2 * fields.width);
  addProduct({
    ...{ first: joined(impressionShares, standardisedShares), second: fields.values },
    ...{ target: pooled, rows: 2, inner: rowCount, columns: fields.width },
  });
  const known = joined(pooled, [size, level], attributesOf(adgroup, attributes));
  const sums = Float64Array.from(denseOf(model, 'preference.bias'));
  addTimes(adgroup, known, 'preference.weight', sums);
  return toTanh(sums);
}

function gated(adgroup: AdaptingAdgroup, embedding: Float64Array): MovingBlocks {
  return startBy(adgroup, (name, shared) => {
    const logits = Float64Array.from(denseOf(adgroup.model, `gate.bias/${name}`));
    addTimes(adgroup, embedding, `gate.weight/${name}`, logits);
    return logits.map((logit, index) => at(shared, index) * 2 * sigmoid(logit));
  });
}
