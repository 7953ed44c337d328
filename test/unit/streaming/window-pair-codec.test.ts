/** The blobs of rule-gradient jobs: a pair comes back bit for bit, and nothing else is taken for one. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeRuleGradient,
  decodeRuleParameters,
  decodeWindowPair,
  encodeRuleGradient,
  encodeRuleParameters,
  encodeWindowPair,
} from '../../../shared/streaming/window-pair-codec.js';
import type { WindowPair } from '../../../shared/streaming/rule-tape.js';
import { windowPairGradient } from '../../../shared/streaming/window-pair-gradient.js';
import {
  decodeTensors,
  encodeTensors,
  type CodedTensor,
} from '../../../shared/tensors/tensor-codec.js';
import { smallPair, smallRule, smallStream } from '../../fixtures/small-stream.js';

const shape = { slotCount: 2, rank: 1, timeScaleDays: 3 };

/** Two rows of three features; the second row has two of them. */
const worked: WindowPair = {
  rows: {
    slotCount: 2,
    featureCount: 3,
    slotOfFeature: Uint8Array.of(0, 1, 1),
    rowStarts: Int32Array.of(0, 1, 3),
    features: Int32Array.of(0, 1, 2),
    clicks: Uint8Array.of(1, 0),
    times: Float64Array.of(0.25, 0.5),
  },
  oldRowCount: 1,
  embedding: Float32Array.of(0.5, -0.5, Number.NaN),
  state: {
    features: Float64Array.of(1, 2, 0.1, 0, 0, -1, Infinity, 3, 0.2),
    shared: Float64Array.of(-0),
    sharedTime: 0.125,
  },
};

describe('the blob of a pair', () => {
  test('has named tensors of the documented shapes', () => {
    const tensors = decodeTensors(encodeWindowPair(worked), 'pair');
    expect([...tensors].map(([name, tensor]) => [name, tensor.shape])).toEqual([
      ['times', [2]],
      ['state', [3, 3]],
      ['shared', [1]],
      ['sharedTime', [1]],
      ['embedding', [3, 1]],
      ['rowStarts', [3]],
      ['features', [3]],
      ['oldRowCount', [1]],
      ['slotOfFeature', [3]],
      ['clicks', [2]],
    ]);
    expect(tensors.get('features')?.values).toEqual(Int32Array.of(0, 1, 2));
    expect(tensors.get('sharedTime')?.values).toEqual(Float64Array.of(0.125));
  });

  test('brings back every bit, also of what is not finite', () => {
    expect(decodeWindowPair(encodeWindowPair(worked), shape, 'pair')).toEqual(worked);
  });

  test('gives the gradient of the pair itself, wherever its bytes lie in memory', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 0, max: 3 }), fc.nat(7), (seed, rank, offset) => {
        const rows = smallStream({ seed, rowCount: 12, featuresPerSlot: 4 });
        const rule = smallRule(seed, rows, rank);
        const pair = smallPair(seed, rows, rule);
        const bytes = encodeWindowPair(pair);
        const moved = new Uint8Array(bytes.length + offset).subarray(offset);
        moved.set(bytes);
        const settings = { batchRows: 2, query: 'progressive' } as const;
        const phi = decodeRuleParameters(encodeRuleParameters(rule.parameters), rule.shape, 'phi');
        const there = windowPairGradient(
          rule.shape,
          phi,
          decodeWindowPair(moved, rule.shape, 'pair'),
          settings,
        );
        expect(there).toEqual(windowPairGradient(rule.shape, rule.parameters, pair, settings));
        const { gradient, lossSum } = there;
        const sent = encodeRuleGradient({ gradient, lossSum });
        expect(decodeRuleGradient(sent, rule.shape, 'gradient')).toEqual({ gradient, lossSum });
      }),
      { numRuns: 50 },
    );
  });
});

describe('bytes that are no pair', () => {
  /** The worked pair with some tensors replaced, or left out where null. */
  function changed(changes: Readonly<Record<string, CodedTensor | null>>): Uint8Array {
    const tensors = decodeTensors(encodeWindowPair(worked), 'pair');
    for (const [name, tensor] of Object.entries(changes))
      if (tensor === null) tensors.delete(name);
      else tensors.set(name, tensor);
    return encodeTensors(tensors);
  }
  const vector = (values: CodedTensor['values']): CodedTensor => ({
    shape: [values.length],
    values,
  });

  test.each([
    ['a tensor is missing', { clicks: null }, 'no clicks'],
    ['a type is another', { features: vector(Float32Array.of(0, 1, 2)) }, 'features of another'],
    ['there is one more', { more: vector(Uint8Array.of(1)) }, 'more, which is unknown'],
    ['times are short', { times: vector(Float64Array.of(1)) }, 'times with 1 values, not 2'],
    ['the state is short', { state: vector(new Float64Array(6)) }, 'state with 6 values, not 9'],
    ['rows begin late', { rowStarts: vector(Int32Array.of(1, 1, 3)) }, 'rows that begin at 1'],
    ['a row is negative', { rowStarts: vector(Int32Array.of(0, 4, 3)) }, 'row 1 ends before'],
    ['rows end early', { rowStarts: vector(Int32Array.of(0, 1, 2)) }, 'rows of 2 features, and 3'],
    ['a feature is none', { features: vector(Int32Array.of(0, 3, 2)) }, 'feature 3 of 3'],
    ['a feature is negative', { features: vector(Int32Array.of(0, -1, 2)) }, 'feature -1 of 3'],
    ['a slot is none', { slotOfFeature: vector(Uint8Array.of(0, 2, 1)) }, 'slot 2 of 2'],
    ['a label is no click', { clicks: vector(Uint8Array.of(2, 0)) }, 'row 0 with 2 clicks'],
    ['time goes back', { times: vector(Float64Array.of(2, 1)) }, 'row 1 earlier'],
    ['time is endless', { times: vector(Float64Array.of(1, Infinity)) }, 'row 1 at time Infinity'],
    ['the old window is empty', { oldRowCount: vector(Int32Array.of(0)) }, 'old window of 0 of 2'],
    ['the new window is empty', { oldRowCount: vector(Int32Array.of(2)) }, 'old window of 2 of 2'],
  ])('are refused when %s', (_, changes, found) => {
    const decode = (): unknown => decodeWindowPair(changed(changes), shape, 'pair of job 3');
    expect(decode).toThrow(
      expect.objectContaining({
        kind: 'data',
        report: expect.objectContaining({
          where: 'pair of job 3',
          found: expect.stringContaining(found) as string,
        }) as object,
      }),
    );
  });

  test('are refused when the embedding has another rank than the rule', () => {
    const bytes = encodeWindowPair(worked);
    expect(() => decodeWindowPair(bytes, { ...shape, rank: 2 }, 'pair')).toThrow(/rule-gradient/);
    expect(() => decodeWindowPair(bytes, { ...shape, slotCount: 1 }, 'pair')).toThrow(/rule-gradi/);
  });

  test('a phi or gradient of another length is refused', () => {
    // 2 slots: 18 knots by evidence, 12 by age, 8 scalars, 1 of M, 1 decay.
    const bytes = encodeRuleParameters(new Float64Array(40));
    expect(decodeRuleParameters(bytes, shape, 'phi')).toEqual(new Float64Array(40));
    expect(() => decodeRuleGradient(bytes, shape, 'gradient')).toThrow(/rule-gradient/);
    const short = encodeRuleGradient({ gradient: new Float64Array(39), lossSum: 1 });
    expect(() => decodeRuleGradient(short, shape, 'gradient')).toThrow(/rule-gradient/);
  });
});
