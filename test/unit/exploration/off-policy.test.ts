/** Off-policy estimates by worked numbers, and the joining of decisions with feedback. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import type { RowRecord } from '../../../shared/config/row-record.js';
import { joinedRows } from '../../../coordinator/logs/decision-log.js';
import {
  offPolicyReport,
  type EstimatorName,
  type LoggedRows,
} from '../../../coordinator/scoring/off-policy.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { judgedSlots } from '../../../worker/serving/exploration/chooser.js';
import { candidateOf, feedbackOn, inputOf, settingsOf } from '../../fixtures/decision-input.js';

const SETTINGS = { switchWeight: 2, samples: 500, confidence: 0.95, seed: 1 };

function estimatesOf(rows: LoggedRows): Partial<Record<EstimatorName, number>> {
  const { estimates } = offPolicyReport(rows, SETTINGS);
  return Object.fromEntries(
    estimates.map(({ estimator, interval }) => [estimator, interval?.value]),
  );
}

describe('estimates', () => {
  // Weights 0.5, 1, 4; rewards 1, 0, 1.
  const rows: LoggedRows = {
    decisions: Int32Array.of(0, 1, 2),
    rewards: Float64Array.of(1, 0, 1),
    weights: Float64Array.of(0.5, 1, 4),
    model: {
      ofChoices: Float64Array.of(0.6, 0.2, 0.5),
      ofTarget: Float64Array.of(0.3, 0.4, 0.5),
    },
  };

  it('are the sums by hand', () => {
    const found = estimatesOf(rows);
    // (0.5 + 0 + 4) / 3 and / 5.5
    expect(found.ips).toBeCloseTo(1.5, 12);
    expect(found.snips).toBeCloseTo(4.5 / 5.5, 12);
    expect(found.direct).toBeCloseTo(0.4, 12);
    // Corrections 0.5 0.4, 1 (-0.2), 4 0.5; the last weight is above 2.
    expect(found.dr).toBeCloseTo(0.4 + (0.2 - 0.2 + 2) / 3, 12);
    expect(found['switch-dr']).toBeCloseTo(0.4, 12);
  });

  it('have an effective sample size, and warn of a small one', () => {
    const { weights, warnings, logged } = offPolicyReport(rows, SETTINGS);
    expect(weights.effectiveSampleSize).toBeCloseTo(5.5 ** 2 / 17.25, 12);
    expect([weights.max, weights.zeroShare, weights.aboveSwitchShare]).toEqual([4, 0, 1 / 3]);
    expect(logged?.value).toBeCloseTo(2 / 3, 12);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/leave 2 of 3 rows/);
  });
});

/** Decisions of one policy in a world of known rates, with their outcomes. */
function loggedWorld(share: number, count: number): RowRecord[] {
  const settings = settingsOf({
    policy: 'epsilon-greedy',
    share: { kind: 'fixed', share },
    slots: [1, 2],
    // Decisions are a second apart, so that all but the last ones have settled.
    feedback: { windowSeconds: 1 },
  });
  const rates: Readonly<Record<string, number>> = { best: 0.3, hidden: 0.6, poor: 0.1 };
  const candidates = [
    candidateOf('best', { probability: 0.3, impressions: 5000 }),
    candidateOf('hidden', { probability: 0.2 }),
    candidateOf('poor', { probability: 0.1 }),
  ];
  const stream = randomStream(9, 'world', share);
  return Array.from({ length: count }, (_, index) => {
    const id = `request-${index}`;
    const decision = decide(inputOf(settings, { id, epochMs: index * 1000, candidates }));
    const feedback = decision.decided.flatMap(({ adgroup }, place) => {
      const [slot, epochMs] = [place + 1, index * 1000 + 500];
      const impression = feedbackOn(id, epochMs, { slot });
      return stream.uniform() < (rates[adgroup] ?? 0)
        ? [impression, feedbackOn(id, epochMs, { slot, reward: 1 })]
        : [impression];
    });
    return [decision, ...feedback];
  }).flat();
}

async function* streamed(records: readonly RowRecord[]) {
  for (const record of records) yield await Promise.resolve(record);
}

describe('a decision log', () => {
  it('foretells what another share of exploration earns', async () => {
    const target = settingsOf({
      policy: 'epsilon-greedy',
      share: { kind: 'fixed', share: 0.8 },
      slots: [1, 2],
    });
    const { rows } = await joinedRows(streamed(loggedWorld(0.3, 6000)), (decision) =>
      judgedSlots(decision, target),
    );
    // The model is wrong about one adgroup, so switch-DR must not trust it alone.
    const { estimates, warnings } = offPolicyReport(rows, { ...SETTINGS, switchWeight: 100 });
    // Slot 1 has the best one by 0.2, the others by 0.4 each: 0.34. Slot 2 then has 0.4, 0.14 or 0.54.
    const truth = (0.34 + (0.2 * 0.4 + 0.4 * 0.14 + 0.4 * 0.54)) / 2;
    // All but those of the last second or two.
    expect(rows.rewards.length).toBeGreaterThan(11_990);
    expect(warnings).toEqual([]);
    for (const { estimator, interval } of estimates.filter(
      ({ estimator }) => estimator !== 'direct',
    )) {
      expect(interval?.low, estimator).toBeLessThan(truth);
      expect(interval?.high, estimator).toBeGreaterThan(truth);
    }
  });

  it('counts what it does not use', async () => {
    const settings = settingsOf({ feedback: { windowSeconds: 10 } });
    const decision = (id: string, epochMs: number, mode: 'active' | 'apprentice' = 'active') =>
      decide(inputOf({ ...settings, mode }, { id, epochMs, slots: 1 }));
    const outcome = (id: string, epochMs: number) => feedbackOn(id, epochMs, { reward: 1 });
    const { rows, log } = await joinedRows(
      streamed([
        outcome('early', 5000),
        decision('early', 1000),
        outcome('early', 6000),
        decision('late', 1000),
        outcome('late', 11_001),
        decision('silent', 1000),
        ...['early', 'late', 'silent'].map((id) => feedbackOn(id, 1000)),
        // It has an outcome, and nobody says that it was rendered.
        decision('hidden', 1000),
        outcome('hidden', 2000),
        { kind: 'plain', epochMs: 1000 },
        decision('shadow', 1000, 'apprentice'),
        outcome('nobody', 2000),
        decision('recent', 20_000),
        // Its outcome is known early, and would count while those without one do not.
        decision('clicked', 20_000),
        outcome('clicked', 21_000),
      ]),
      (record) => judgedSlots(record, null),
    );
    expect([...rows.rewards]).toEqual([1, 0, 0]);
    expect(log).toEqual({
      decisionCount: 7,
      plainCount: 1,
      outcomeCount: 6,
      apprenticeCount: 1,
      immatureCount: 2,
      unrenderedCount: 1,
      lateCount: 1,
      duplicateCount: 1,
      unknownCount: 1,
    });
  });

  it('has the same mean if half of the slates are not rendered, and requests and feedback are sent again', async () => {
    const whole = loggedWorld(0.3, 6000);
    const stream = randomStream(4, 'rendering');
    let isRendered = true;
    const repeated = whole.flatMap((record): RowRecord[] => {
      if (record.kind !== 'decision')
        return isRendered ? [record, { ...record, epochMs: record.epochMs + 100 }] : [];
      isRendered = stream.uniform() < 0.5;
      // A request that is sent again is decided again, and one of the answers is rendered.
      return [decide({ ...record.input, id: `${record.input.id}-lost` }), record];
    });
    const judged = async (records: readonly RowRecord[]) => {
      const { rows, log } = await joinedRows(streamed(records), (each) => judgedSlots(each, null));
      return { log, report: offPolicyReport(rows, SETTINGS) };
    };
    const [all, half] = [await judged(whole), await judged(repeated)];
    // Slots of the last second or two are immature.
    expect(Math.abs(half.report.rowCount / all.report.rowCount - 0.5)).toBeLessThan(0.02);
    expect(half.report.rowCount + half.log.unrenderedCount).toBe(2 * all.report.rowCount);
    expect(half.report.weights.mean?.value).toBeCloseTo(1, 12);
    expect(Number(half.report.logged?.low)).toBeLessThan(Number(all.report.logged?.value));
    expect(Number(half.report.logged?.high)).toBeGreaterThan(Number(all.report.logged?.value));
  });
});
