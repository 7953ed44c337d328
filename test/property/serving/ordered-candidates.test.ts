// The order of candidates and their calibration by the addon are those of TypeScript, bit for bit. Seen to fail:
// values compared by the upper half of their bits alone, -0 put behind 0, the reserve left out, live
// candidates calibrated as their blocks are, an exponential of which the last term is left out, live candidates without a sigmoid.

import { expect, test } from 'vitest';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { type ScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { Estimator, type Estimates } from '../../../worker/serving/server/served-bundle.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES = 500;
const COUNT_MAX = 300;

const addon = await compiledAddon();

/** Many are equal, or differ in their last bits alone. */
function valueOf(random: RandomStream): number {
  switch (random.below(6)) {
    case 0:
      return [0, -0, 1, Infinity, NaN, Number.MIN_VALUE, -1][random.below(7)]!;
    case 1:
      return 1 + random.below(4) * Number.EPSILON;
    case 2:
      return random.below(5);
    default:
      return random.uniform() * 10 ** (random.below(40) - 20);
  }
}

/** Bit by bit but for what NaN holds. */
function isSame(found: ArrayLike<number>, expected: ArrayLike<number>): boolean {
  return (
    found.length === expected.length &&
    Array.prototype.every.call(found, (value, index) => Object.is(value, expected[index]))
  );
}

test('candidates are in the order of their values, equal ones as they were', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'values');
    const values = Float64Array.from({ length: random.below(COUNT_MAX) }, () => valueOf(random));
    const reserve = [0, 1, 0.5, 1 + Number.EPSILON][random.below(4)]!;
    const expected = Array.from(values.keys())
      .filter((place) => values[place]! >= reserve)
      .sort((a, b) => (values[a] === values[b] ? a - b : values[b]! - values[a]!));
    const hasEqual = new Set(expected.map((place) => values[place])).size < expected.length;
    const native = new Int32Array(values.length);
    const count = hasEqual ? -1 - expected.length : expected.length;
    expect(addon.order(values, reserve, native), `seed ${seed}`).toBe(count);
    const found = native.subarray(0, expected.length);
    expect(isSame(found, expected), `seed ${seed}`).toBe(true);
  }
});

/** @param areProbabilities of all labels; one of two is a value otherwise. */
function drawnBundle(random: RandomStream, blockCount: number, areProbabilities: boolean) {
  const labelCount = areProbabilities ? 1 + random.below(2) : 2;
  const manifest = {
    labels: [
      { loss: 'binary', segment: null },
      areProbabilities
        ? { loss: 'binary', segment: 'sales' }
        : { loss: 'squared', segment: 'sales', mean: random.normal(), deviation: random.uniform() },
    ].slice(0, labelCount),
    calibrations: Array.from({ length: labelCount }, () => ({ slope: random.normal() })),
    // Only what calibration reads.
  } as unknown as LoadedBundle['manifest'];
  const length = blockCount;
  const labels = Int32Array.from({ length }, () => random.below(labelCount));
  return { manifest, labels, offsets: Float32Array.from({ length }, () => random.normal()) };
}

/** The definition of what the addon's function writes. */
const plainAddon: Pick<ScoringAddon, 'calibrate'> = {
  calibrate: (blocks, scores, offsets, labelsOf, slopes, areAll, labels, expected) => {
    for (const [candidate, block] of blocks.entries()) {
      const label = labelsOf[block]!;
      const calibrated = slopes[label]! * scores[candidate]! + offsets[block]!;
      labels[candidate] = label;
      expected[candidate] = areAll ? sigmoid(calibrated) : calibrated;
    }
  },
};

function completed(by: Estimator, blocks: Int32Array, scores: Float32Array, label = 1): Estimates {
  const estimates = by.begin(blocks.length);
  estimates.blocks.set(blocks);
  estimates.scores.set(scores);
  const notes = { label, offset: 0.25, supportRows: 3, clicks: 1, impressions: 3 };
  by.complete(estimates, blocks.length > 2 ? new Map([[1, notes]]) : null);
  return estimates;
}

test('scores are calibrated by the blocks of the candidates', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'calibration');
    const blockCount = 1 + random.below(100);
    const bundle = drawnBundle(random, blockCount, false);
    const length = random.below(COUNT_MAX);
    const blocks = Int32Array.from({ length }, () => random.below(blockCount));
    const scores = Float32Array.from({ length }, () => 3 * random.normal());
    const plain = completed(new Estimator(bundle, plainAddon), blocks, scores);
    const native = completed(new Estimator(bundle, addon), blocks, scores);
    expect(isSame(native.expected, plain.expected), `seed ${seed}`).toBe(true);
    expect(isSame(native.labels, plain.labels), `seed ${seed}`).toBe(true);
    if (length <= 2) continue;
    const { labels, calibrations } = bundle.manifest;
    const [{ slope }, sales] = [calibrations[1]!, labels[1]!];
    const { mean, deviation } = sales as { readonly mean: number; readonly deviation: number };
    expect(plain.expected[1]).toBe(mean + deviation * (slope * scores[1]! + 0.25));
    expect(plain.labels[1]).toBe(1);
  }
});

/** Numbers of all sizes that a logit may have, and of those where the exponential is computed otherwise. */
function logitOf(random: RandomStream): number {
  const size = [1e-9, 0.35, 1, 1.04, 30, 710, 745, 2_000][random.below(8)]!;
  const odd = [0, -0, NaN, Infinity, -Infinity, Math.LN2 / 2, -Math.LN2 / 2, -745.133][
    random.below(8)
  ]!;
  return random.below(8) === 0 ? odd : size * (2 * random.uniform() - 1);
}

test('probabilities are those of TypeScript', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'probabilities');
    const blockCount = 1 + random.below(100);
    const bundle = drawnBundle(random, blockCount, true);
    const length = random.below(COUNT_MAX);
    const blocks = Int32Array.from({ length }, () => random.below(blockCount));
    const scores = Float32Array.from({ length }, () => logitOf(random));
    const label = bundle.manifest.labels.length - 1;
    const plain = completed(new Estimator(bundle, plainAddon), blocks, scores, label);
    const native = completed(new Estimator(bundle, addon), blocks, scores, label);
    expect(isSame(native.expected, plain.expected), `seed ${seed}`).toBe(true);
    expect(isSame(native.labels, plain.labels), `seed ${seed}`).toBe(true);
  }
});

test('what is out of bounds is refused', () => {
  const one = new Int32Array(1);
  const numbers = new Float64Array(1);
  const [floats, slopes] = [new Float32Array(1), new Float64Array(2)];
  const calibrate = (blocks: Int32Array, labels = one, expected = numbers) =>
    addon.calibrate(blocks, floats, floats, labels, slopes, false, one.slice(), expected);
  expect(() => calibrate(one)).not.toThrow();
  expect(() => calibrate(Int32Array.of(1))).toThrow('no block');
  expect(() => calibrate(Int32Array.of(-1))).toThrow('no block');
  expect(() => calibrate(one, Int32Array.of(2))).toThrow('no label');
  expect(() => calibrate(one, Int32Array.of(-1))).toThrow('no label');
  expect(() => calibrate(one, one, new Float64Array(0))).toThrow('too short');
  expect(() => addon.order(new Float64Array(2), 0, one)).toThrow('too short');
  expect(() => addon.order(new Float32Array(1) as unknown as Float64Array, 0, one)).toThrow('type');
});
