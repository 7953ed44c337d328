/** The drifting world, and the embedding and builder that create streams. */

import { describe, expect, test } from 'vitest';
import {
  DRIFTING_SLOTS,
  driftingStream,
  type DriftingStreamSettings,
} from '../../fixtures/drifting-stream.js';
import { featureEmbedding } from '../../../coordinator/streaming/feature-embedding.js';
import { meanLogloss } from '../../../coordinator/streaming/progressive-validation.js';
import { StreamBuilder } from '../../../coordinator/streaming/stream-builder.js';
import { randomStream } from '../../../shared/base/random.js';

const WORLD: DriftingStreamSettings = {
  seed: 5,
  rowCount: 20_000,
  days: 4,
  drift: 1,
  classDeviation: 0.5,
};

describe('the drifting world', () => {
  const { rows, trueLogits } = driftingStream(WORLD);
  const whole = { from: 0, to: WORLD.rowCount };

  test('follows from its seed', () => {
    expect(driftingStream(WORLD).rows.clicks).toEqual(rows.clicks);
    expect(driftingStream({ ...WORLD, seed: 6 }).rows.clicks).not.toEqual(rows.clicks);
  });

  test('clicks come at the true rate: predicted and counted agree within four deviations', () => {
    let expected = 0;
    let variance = 0;
    for (const logit of trueLogits) {
      const probability = 1 / (1 + Math.exp(-logit));
      expected += probability;
      variance += probability * (1 - probability);
    }
    const clicks = rows.clicks.reduce((sum, click) => sum + click, 0);
    expect(Math.abs(clicks - expected)).toBeLessThan(4 * Math.sqrt(variance));
  });

  test('no shifted or scaled truth predicts better', () => {
    const truth = meanLogloss(trueLogits, rows, whole);
    for (const change of [
      (logit: number) => logit + 0.2,
      (logit: number) => logit - 0.2,
      (logit: number) => 0.8 * logit,
    ])
      expect(meanLogloss(trueLogits.map(change), rows, whole)).toBeGreaterThan(truth);
  });

  test('a weight wanders when the world drifts, and is constant when it does not', () => {
    // Rows equal in every feature: their logits differ by the drift in between.
    const spread = (drift: number): number => {
      const rowCount = 45_000;
      const world = driftingStream({ ...WORLD, rowCount, drift, classDeviation: 0 });
      const byFeatures = new Map<string, number[]>();
      for (let row = 0; row < rowCount; row += 1) {
        const key = world.rows.features
          .subarray(row * DRIFTING_SLOTS.length, (row + 1) * DRIFTING_SLOTS.length)
          .join();
        byFeatures.set(key, [...(byFeatures.get(key) ?? []), world.trueLogits[row]!]);
      }
      const repeated = [...byFeatures.values()].filter((logits) => logits.length > 1);
      expect(repeated.length).toBeGreaterThan(1);
      return Math.max(...repeated.map((logits) => Math.max(...logits) - Math.min(...logits)));
    };
    expect(spread(0)).toBeLessThan(1e-12);
    expect(spread(1)).toBeGreaterThan(0.05);
  });

  test('features appear and disappear', () => {
    const lastDay = rows.features.subarray(15_000 * DRIFTING_SLOTS.length);
    const firstDay = new Set(rows.features.subarray(0, 5000 * DRIFTING_SLOTS.length));
    const adgroups = [...new Set(lastDay)].filter((feature) => rows.slotOfFeature[feature] === 5);
    const unseen = adgroups.filter((feature) => !firstDay.has(feature));
    expect(unseen.length).toBeGreaterThan(0.2 * adgroups.length);
    expect(unseen.length).toBeLessThan(adgroups.length);
  });
});

describe('the embedding of features', () => {
  /**
   * Two groups of users and films that mostly meet within their group; the last user appears late.
   */
  function twoGroups(): ReturnType<StreamBuilder['finish']> {
    const builder = new StreamBuilder([
      { name: 'user', of: null },
      { name: 'film', of: null },
    ]);
    const draws = randomStream(1, 'two-groups');
    for (let row = 0; row < 3000; row += 1) {
      const group = draws.below(2);
      const filmGroup = draws.uniform() < 0.9 ? group : 1 - group;
      const user = row >= 2900 && group === 0 ? 'late' : `${group}-${draws.below(10)}`;
      builder.add(
        row,
        false,
        new Map([
          ['user', [user]],
          ['film', [`${filmGroup}-${draws.below(10)}`]],
        ]),
      );
    }
    return builder.finish();
  }
  const rows = twoGroups();
  const settings = {
    seed: 1,
    rank: 1,
    slots: [0, 1],
    placesOthers: true,
    priorRowCount: 2900,
    sweepCount: 8,
    rareRows: 5,
  };
  const embedding = featureEmbedding(rows, settings);

  test('its first axis separates the groups', () => {
    const sides = new Map<number, Set<number>>();
    for (let row = 0; row < 2900; row += 1) {
      const user = rows.features[2 * row]!;
      const film = rows.features[2 * row + 1]!;
      sides.set(user, (sides.get(user) ?? new Set()).add(Math.sign(embedding[film]!)));
      expect(embedding[user]).not.toBe(0);
    }
    const signs = [...sides.keys()].map((user) => Math.sign(embedding[user]!));
    expect(signs.filter((sign) => sign > 0)).toHaveLength(10);
    expect(signs.filter((sign) => sign < 0)).toHaveLength(10);
  });

  test('a feature of later rows lies where its first row does', () => {
    const late = rows.features.length / 2 - 1;
    const place = [...Array(late + 1).keys()].find(
      (row) => row >= 2900 && !rows.features.subarray(0, 5800).includes(rows.features[2 * row]!),
    )!;
    expect(embedding[rows.features[2 * place]!]).toBe(embedding[rows.features[2 * place + 1]!]);
  });

  test('neither labels nor rows after the prior part shape the axes', () => {
    const clicks = rows.clicks.map((click) => 1 - click);
    expect(featureEmbedding({ ...rows, clicks }, settings)).toEqual(embedding);
    const features = rows.features.slice();
    features.set(rows.features.subarray(0, 100), 5900);
    const others = featureEmbedding({ ...rows, features }, settings);
    const known = new Set(rows.features.subarray(0, 5800));
    for (const feature of known) expect(others[feature]).toBe(embedding[feature]);
  });
});

describe('an embedding of selected slots', () => {
  test('leaves the other slots at 0 and does not depend on them', () => {
    const builderOf = (third: boolean): ReturnType<StreamBuilder['finish']> => {
      const names = third ? ['user', 'film', 'other'] : ['user', 'film'];
      const builder = new StreamBuilder(names.map((name) => ({ name, of: null })));
      const draws = randomStream(2, 'chosen-slots');
      for (let row = 0; row < 400; row += 1) {
        const group = draws.below(2);
        const values = names.map((name): [string, string[]] => [
          name,
          [`${name === 'other' ? row % 3 : group}-${name === 'other' ? '' : draws.below(5)}`],
        ]);
        builder.add(row, false, new Map(values));
      }
      return builder.finish();
    };
    const settings = {
      seed: 1,
      rank: 1,
      slots: [0, 1],
      placesOthers: false,
      priorRowCount: 300,
      sweepCount: 8,
      rareRows: 5,
    };
    const two = builderOf(false);
    const three = builderOf(true);
    const own = featureEmbedding(two, settings);
    const others = featureEmbedding(three, settings);
    for (let row = 0; row < 400; row += 1) {
      for (const slot of [0, 1])
        expect(Math.abs(others[three.features[3 * row + slot]!]!)).toBeCloseTo(
          Math.abs(own[two.features[2 * row + slot]!]!),
          5,
        );
      expect(others[three.features[3 * row + 2]!]).toBe(0);
    }
    expect(own.some((value) => value > 0.1)).toBe(true);
  });
});

describe('the builder of streams', () => {
  const slots = [
    { name: 'user', of: null },
    { name: 'genre', of: null },
    { name: 'user x genre', of: ['user', 'genre'] },
  ];

  test('numbers features by first occurrence and crosses every combination', () => {
    const builder = new StreamBuilder(slots);
    const values = (user: string, genres: string[]): Map<string, string[]> =>
      new Map([
        ['user', [user]],
        ['genre', genres],
      ]);
    builder.add(0, true, values('a', ['x', 'y']));
    builder.add(43_200, false, values('b', ['y']));
    builder.add(86_400, false, values('b', []));
    const rows = builder.finish();
    expect([...rows.rowStarts]).toEqual([0, 5, 8, 9]);
    expect([...rows.features]).toEqual([0, 1, 2, 3, 4, 5, 2, 6, 5]);
    expect([...rows.slotOfFeature]).toEqual([0, 1, 1, 2, 2, 0, 2]);
    expect([...rows.times]).toEqual([0, 0.5, 1]);
    expect([...rows.clicks]).toEqual([1, 0, 0]);
  });

  test('refuses rows that go back in time', () => {
    const builder = new StreamBuilder(slots);
    builder.add(1, true, new Map());
    builder.add(0, true, new Map());
    expect(() => builder.finish()).toThrow('row 1 is earlier');
  });
});
