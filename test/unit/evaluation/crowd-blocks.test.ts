/**
 * Blocks of crowds: the mode of one crowd by hand, effects of known size, and no effect at all. Seen to fail: adgroups without the
 * crowds as offset, variances of the prior by squares of modes alone, unknown crowds that are fitted.
 */

import { beforeAll, expect, test } from 'vitest';
import { rowAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { fitInTurns, levelOf } from '../../../coordinator/evaluation/crowd-blocks.js';
import { at } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import { loadNativeRows, nativeRows } from '../../../shared/tensors/native-rows.js';

beforeAll(async () => {
  await rowAddon.install(() => undefined, { retry: true });
  loadNativeRows(rowAddon.path());
});

test('the posterior of one crowd, by hand', () => {
  // A bias alone: two rows with a click and two without, above logits of 0, have their mode at 0, where each of the four rows has
  // the curvature 1/4. With the prior's precision of 3, the variance is 1 / (3 + 4/4).
  // A second crowd has no row and keeps the prior, with its variance of 1/3.
  const [modes, variances] = [new Float32Array(2), new Float32Array(2)];
  nativeRows()!.posteriors(
    Int32Array.of(0, 4, 4),
    Int32Array.of(3, 0, 2, 1),
    new Float32Array(4).fill(1),
    new Float32Array(4),
    Float32Array.of(1, 0, 1, 0),
    new Float32Array(4).fill(1),
    Float32Array.of(3),
    Float64Array.of(5, 2, 0),
    modes,
    variances,
  );
  expect(modes[0]).toBeCloseTo(0, 6);
  expect(variances[0]).toBeCloseTo(1 / 4, 6);
  expect([modes[1], variances[1]]).toEqual([0, Math.fround(1 / 3)]);
});

const [CROWDS, ADGROUPS, ROWS_PER_ADGROUP] = [120, 150, 160];
const PRIOR = {
  precisions: Float32Array.of(1 / 0.5 ** 2, 1 / 0.5 ** 2),
  ...{ stepLengthMax: 2, precisionMin: 1e-6 },
};

/** Rows with a bias and one feature. Four in five rows of an adgroup are of four crowds, so effects must be told apart. */
async function fitted(deviations: readonly [bias: number, response: number]) {
  const random = randomStream(4, 'crowds', ...deviations);
  const drawn = (count: number, of: readonly number[]): number[][] =>
    Array.from({ length: count }, () => of.map((deviation) => deviation * random.normal()));
  const [own, truth] = [drawn(ADGROUPS, [0.5, 0.5]), drawn(CROWDS, deviations)];
  const rowCount = ADGROUPS * ROWS_PER_ADGROUP;
  const slopes = new Float32Array(2 * rowCount).fill(1);
  const [clicks, logits] = [new Float32Array(rowCount), new Float32Array(rowCount).fill(-1)];
  const [adgroupOfRow, crowdOfRow] = [new Int32Array(rowCount), new Int32Array(rowCount)];
  for (let row = 0; row < rowCount; row += 1) {
    const adgroup = Math.floor(row / ROWS_PER_ADGROUP);
    const home = (7 * adgroup) % CROWDS;
    const crowd = (home + random.below(random.below(5) === 0 ? CROWDS : 4)) % CROWDS;
    const feature = random.normal();
    slopes[2 * row + 1] = feature;
    const [a, c] = [at(own, adgroup), crowd === 0 ? [0, 0] : at(truth, crowd)];
    const logit = -1 + at(a, 0) + at(c, 0) + feature * (at(a, 1) + at(c, 1));
    clicks[row] = random.uniform() < sigmoid(logit) ? 1 : 0;
    [adgroupOfRow[row], crowdOfRow[row]] = [adgroup, crowd];
  }
  const impressions = new Float32Array(rowCount).fill(1);
  const rows = { count: 2, slopes, logits, clicks, impressions };
  const blocks = await fitInTurns(rows, {
    adgroups: levelOf(adgroupOfRow, ADGROUPS),
    crowds: levelOf(crowdOfRow, CROWDS, (crowd) => crowd > 0),
    prior: PRIOR,
  });
  return { ...blocks, truth };
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

test('finds what crowds add to adgroups, and how far it can be wrong', async () => {
  const { modes, variances, truth } = await fitted([0.6, 0.3]);
  for (const [k, missMax] of [0.2, 0.18].entries()) {
    const misses = truth.map((of, crowd) => at(of, k) - at(modes, 2 * crowd + k)).slice(1);
    const expected = Math.sqrt(
      misses.reduce((sum, _, crowd) => sum + at(variances, 2 * (crowd + 1) + k), 0) / misses.length,
    );
    expect(rootMeanSquare(misses)).toBeLessThan(missMax);
    expect(rootMeanSquare(misses) / expected).toBeGreaterThan(0.8);
    expect(rootMeanSquare(misses) / expected).toBeLessThan(1.25);
  }
  // The unknown crowd is as wide as the prior, which is as wide as the truth.
  expect([modes[0], modes[1]]).toEqual([0, 0]);
  expect(Math.sqrt(variances[0]!) / 0.6).toBeCloseTo(1, 0);
  expect(Math.sqrt(variances[1]!) / 0.3).toBeCloseTo(1, 0);
});

test('an effect that crowds do not have shrinks to nothing', async () => {
  const { modes, variances } = await fitted([0, 0.3]);
  const biases = [...modes].filter((_, place) => place % 2 === 0);
  expect(rootMeanSquare(biases)).toBeLessThan(0.03);
  expect(Math.sqrt(variances[0]!)).toBeLessThan(0.1);
  expect(Math.sqrt(variances[1]!)).toBeGreaterThan(0.2);
});
