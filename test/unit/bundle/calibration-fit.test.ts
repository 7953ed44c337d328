/** Calibration by evidence: worked numbers, shrinkage, what never rises, and what it does to rows of known truth. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fitCalibration, type CalibrationRows } from '../../../coordinator/export/calibrate.js';
import { offsetOf } from '../../../shared/bundle/calibration.js';
import { randomStream } from '../../../shared/base/random.js';
import { sigmoid } from '../../../shared/base/logistic.js';

const NOTHING = { clicks: 0, impressions: 0 };

/** Clicks in proportion to the truth under a slope and an offset, of adgroups with some evidence. */
function rowsOf(
  truth: { readonly slope: number; readonly offset: number },
  impressionsOfRow: number,
  evidence = NOTHING,
): CalibrationRows {
  const stream = randomStream(3, 'calibration rows');
  const outputs = Float64Array.from({ length: 200 }, () => stream.normal() - 1);
  return {
    ...{ evidence, outputs },
    impressions: outputs.map(() => impressionsOfRow),
    clicks: outputs.map((z) => impressionsOfRow * sigmoid(truth.slope * z + truth.offset)),
  };
}

const evidenceDrawn = fc
  .record({ clicks: fc.nat(40), withoutClick: fc.nat(3_000) })
  .map(({ clicks, withoutClick }) => ({ clicks, impressions: clicks + withoutClick }));
const groupsDrawn = fc.array(
  fc.record({
    evidence: evidenceDrawn,
    rows: fc.array(
      fc.record({
        output: fc.double({ min: -30, max: 30, noNaN: true }),
        clicked: fc.double({ min: 0, max: 1, noNaN: true }),
        shown: fc.double({ min: 0, max: 100, noNaN: true }),
      }),
      { maxLength: 6 },
    ),
  }),
  { maxLength: 8 },
);
type Drawn = typeof groupsDrawn extends fc.Arbitrary<infer Groups> ? Groups : never;

function groupsOf(drawn: Drawn): CalibrationRows[] {
  return drawn.map(({ evidence, rows }) => ({
    evidence,
    outputs: rows.map(({ output }) => output),
    impressions: rows.map(({ shown }) => shown),
    clicks: rows.map(({ clicked, shown }) => clicked * shown),
  }));
}

describe('a fit', () => {
  test('of values solves the penalised normal equations', () => {
    // Rows (1, 3) and (-1, 1) of weight 50 around slope 1 and offset 0: by symmetry the equations divide into
    //   (100 + 100) a = 100 + 50 (3 - 1)  and  (25 + 100) b = 50 (3 + 1).
    const rows = { outputs: [1, -1], clicks: [150, 50], impressions: [50, 50] };
    const { slope, offset } = fitCalibration([{ evidence: NOTHING, ...rows }], 'squared');
    expect(slope).toBeCloseTo(1, 9);
    expect(offset).toBeCloseTo(1.6, 9);
  });

  test('of clicks finds the truth with much evidence and stays near the prior with little', () => {
    const truth = { slope: 0.6, offset: 0.5 };
    const much = fitCalibration([rowsOf(truth, 10_000)], 'binary');
    expect(much.slope).toBeCloseTo(truth.slope, 2);
    expect(much.offset).toBeCloseTo(truth.offset, 2);
    const little = fitCalibration([rowsOf(truth, 0.01)], 'binary');
    expect(Math.abs(little.slope - 1)).toBeLessThan(0.02);
    expect(Math.abs(little.offset)).toBeLessThan(0.02);
  });

  test('finds what evidence adds, and is a line between knots', () => {
    const of = (offset: number, clicks: number, withoutClick: number): CalibrationRows =>
      rowsOf({ slope: 1, offset }, 10_000, { clicks, impressions: clicks + withoutClick });
    const found = fitCalibration(
      [of(0, 0, 0), of(-0.4, 0, 1), of(-0.6, 0, 5), of(0.3, 1, 0)],
      'binary',
    );
    const at = (clicks: number, withoutClick: number): number =>
      offsetOf(found, 'binary', { clicks, impressions: clicks + withoutClick });
    expect(at(0, 0)).toBeCloseTo(0, 2);
    expect(at(0, 1)).toBeCloseTo(-0.4, 2);
    expect(at(0, 5)).toBeCloseTo(-0.6, 2);
    expect(at(1, 0)).toBeCloseTo(0.3, 2);
    expect(at(1, 5)).toBeCloseTo(-0.3, 2);
    // Knots without rows keep what the one before has.
    expect(at(0, 1e6)).toBeCloseTo(-0.6, 2);
    expect(at(1e6, 0)).toBeCloseTo(0.3, 2);
    expect(at(0, 0.5)).toBeCloseTo((-0.4 * Math.log(1.5)) / Math.log(2), 2);
  });

  // Seen to fail: the penalty left out of the gradient.
  test.each(['binary', 'squared'] as const)(
    'of %s labels is a minimum, whatever the rows',
    (loss) => {
      fc.assert(
        fc.property(groupsDrawn, (drawn) => {
          const groups = groupsOf(drawn);
          const found = fitCalibration(groups, loss);
          const best = penalisedLoss(groups, loss, found);
          expect(Number.isFinite(best)).toBe(true);
          const near = (changed: Partial<typeof found>): void => {
            expect(penalisedLoss(groups, loss, { ...found, ...changed })).toBeGreaterThanOrEqual(
              best - 1e-7 * Math.abs(best),
            );
          };
          const bound = loss === 'binary' ? 0 : Infinity;
          for (const by of [0.01, -0.01]) {
            if (found.slope + by >= 0.05) near({ slope: found.slope + by });
            near({ offset: found.offset + by });
            for (const from of found.withoutClick.keys()) {
              const withoutClick = shifted(found.withoutClick, from, by);
              if (changesOf(withoutClick).every((change) => change <= bound))
                near({ withoutClick });
            }
            for (const from of found.clicks.keys()) {
              const clicks = shifted(found.clicks, from, by);
              if (changesOf(clicks).every((change) => change >= 0)) near({ clicks });
            }
          }
        }),
        { numRuns: 60 },
      );
    },
  );

  // Seen to fail: without the bounds of what offsets change by at knots; knots of clicks read by impressions.
  test('one impression without a click never raises a score, and one click never lowers it', () => {
    fc.assert(
      fc.property(groupsDrawn, evidenceDrawn, (drawn, { clicks, impressions }) => {
        const found = fitCalibration(groupsOf(drawn), 'binary');
        const now = offsetOf(found, 'binary', { clicks, impressions });
        const shown = offsetOf(found, 'binary', { clicks, impressions: impressions + 1 });
        const clicked = offsetOf(found, 'binary', {
          ...{ clicks: clicks + 1, impressions: impressions + 1 },
        });
        expect(shown).toBeLessThanOrEqual(now);
        expect(clicked).toBeGreaterThanOrEqual(now);
      }),
    );
  });
});

type Effects = ReturnType<typeof fitCalibration>['clicks'];

function shifted(effects: Effects, from: number, by: number): Effects {
  return effects.map(({ count, effect }, place) => ({
    ...{ count, effect: place >= from ? effect + by : effect },
  }));
}

function changesOf(effects: Effects): number[] {
  return effects.map(({ effect }, place) => effect - (effects[place - 1]?.effect ?? 0));
}

/** As the head of the file defines it. */
function penalisedLoss(
  groups: readonly CalibrationRows[],
  loss: 'binary' | 'squared',
  found: ReturnType<typeof fitCalibration>,
): number {
  const { slope, offset, withoutClick, clicks } = found;
  let sum = 50 * (slope - 1) ** 2 + 12.5 * offset ** 2;
  for (const change of [...changesOf(withoutClick), ...changesOf(clicks)])
    sum += 12.5 * change ** 2;
  const lineAt = (effects: Effects, count: number): number => {
    const knots = [{ count: 0, effect: 0 }, ...effects];
    const upper = knots.findIndex((knot) => knot.count > count);
    if (upper < 0) return knots.at(-1)!.effect;
    const [low, high] = [knots[upper - 1]!, knots[upper]!];
    const place =
      Math.log((1 + count) / (1 + low.count)) / Math.log((1 + high.count) / (1 + low.count));
    return low.effect + place * (high.effect - low.effect);
  };
  for (const { evidence, outputs, clicks: clicked, impressions } of groups) {
    const counted =
      loss === 'binary' ? evidence.impressions - evidence.clicks : evidence.impressions;
    const own = offset + lineAt(withoutClick, counted) + lineAt(clicks, evidence.clicks);
    for (let row = 0; row < outputs.length; row += 1) {
      const z = slope * outputs[row]! + own;
      const convex =
        loss === 'binary' ? Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) : (z * z) / 2;
      sum += impressions[row]! * convex - clicked[row]! * z;
    }
  }
  return sum;
}
