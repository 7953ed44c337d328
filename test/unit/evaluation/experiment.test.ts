/** A/B tests: worked numbers, and simulated tests whose truth is known. */

import { describe, expect, it } from 'vitest';
import {
  ArmSums,
  experimentReport,
  normalBelow,
  type ExperimentSettings,
  type UnitSums,
} from '../../../coordinator/scoring/experiment.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';

const SETTINGS: ExperimentSettings = {
  ...{ confidence: 0.95, effect: 0.02, power: 0.8, unitsPlanned: 1_000, share: undefined },
};

function sumsOf(units: readonly UnitSums[]): ArmSums {
  const sums = new ArmSums();
  for (const unit of units) sums.add(unit);
  return sums;
}

function reportOf(
  control: ArmSums,
  treatment: ArmSums,
  settings: Partial<ExperimentSettings> = {},
) {
  const arms = new Map([
    ['a', control],
    ['b', treatment],
  ]);
  return experimentReport(arms, new Map(), { ...SETTINGS, ...settings });
}

/** Units with a click rate of their own, which holds before the test, too. */
function drawnUnit(stream: RandomStream, lift: number, impressionsBefore = 0): UnitSums {
  const rate = 0.3 + 0.3 * stream.uniform();
  const impressions = 50 + stream.below(300);
  const clicksOf = (count: number, mean: number): number =>
    Math.round(count * mean + Math.sqrt(count * mean * (1 - mean)) * stream.normal());
  return [
    ...[clicksOf(impressions, rate * (1 + lift)), impressions],
    ...[impressionsBefore === 0 ? 0 : clicksOf(impressionsBefore, rate), impressionsBefore],
  ] as const;
}

describe('intervals', () => {
  it('have the variance of the delta method over units', () => {
    // Halves of the units have 1 of 2 and 3 of 4: 4 of 6, with residuals -1/3 and 1/3 per unit, 3 impressions on average.
    const units = Array.from({ length: 200 }, (_, unit): UnitSums =>
      unit % 2 === 0 ? [1, 2, 0, 0] : [3, 4, 0, 0],
    );
    const [, arm] = reportOf(sumsOf(units), sumsOf(units)).arms;
    const variance = ((1 / 9 / 9) * 200) / 199 / 200;
    const deviation = Math.sqrt(2 * variance) / (2 / 3);
    const logarithm = -2 * Math.log(0.05);
    const spread = (400 * (logarithm + Math.log(logarithm) + 1)) / 2_000;
    const width = Math.sqrt(2 * (1 + 1 / spread) * Math.log(Math.sqrt(spread + 1) / 0.05));
    expect(arm?.lift?.value).toBeCloseTo(0, 12);
    expect(arm?.lift?.high).toBeCloseTo(width * deviation, 10);
    expect(arm?.verdict).toBe('undecided');
  });

  it('are not given for fewer than 100 units, nor for a control without outcomes', () => {
    const units = Array.from({ length: 99 }, (): UnitSums => [1, 2, 0, 0]);
    const none = Array.from({ length: 100 }, (): UnitSums => [0, 2, 0, 0]);
    expect(reportOf(sumsOf(none), sumsOf(units)).arms[1]?.lift).toBeNull();
    expect(reportOf(sumsOf(none), sumsOf([...units, [1, 2, 0, 0]])).arms[1]?.lift).toBeNull();
  });

  it('grow narrower by what units did before the test, which moves no mean on average', () => {
    const stream = randomStream(1, 'before');
    const unitsOf = (): UnitSums[] =>
      Array.from({ length: 2_000 }, () => drawnUnit(stream, 0, 400));
    const [control, treatment] = [unitsOf(), unitsOf()];
    const without = (units: readonly UnitSums[]): ArmSums =>
      sumsOf(units.map(([clicks, impressions]) => [clicks, impressions, 0, 0]));
    const adjusted = reportOf(sumsOf(control), sumsOf(treatment));
    const plain = reportOf(without(control), without(treatment));
    expect(plain.explainedShare).toBeNull();
    expect(adjusted.explainedShare).toBeGreaterThan(0.6);
    const widthOf = ({ arms: [, arm] }: typeof plain): number =>
      (arm?.lift?.high ?? NaN) - (arm?.lift?.value ?? NaN);
    const narrower = Math.sqrt(1 - (adjusted.explainedShare ?? NaN));
    expect(widthOf(adjusted) / widthOf(plain)).toBeCloseTo(narrower, 2);
  });

  it('are wider where several arms or segments are compared', () => {
    const units = Array.from({ length: 200 }, (_, unit): UnitSums => [unit % 2, 2, 0, 0]);
    const names = ['a', 'b', 'c'];
    const arms = new Map(names.map((name) => [name, sumsOf(units)]));
    const segments = new Map(['n', 's'].map((name) => [name, arms]));
    const report = experimentReport(arms, segments, SETTINGS);
    const two = reportOf(sumsOf(units), sumsOf(units)).arms[1]?.lift?.high ?? NaN;
    const three = report.arms[2]?.lift?.high ?? NaN;
    const inSegment = report.segments[0]?.arms[2]?.lift?.high ?? NaN;
    expect(three).toBeGreaterThan(two);
    expect(inSegment).toBeGreaterThan(three);
  });
});

describe('simulated tests', () => {
  it('of equal arms call at most one in twenty different, looking at any time', () => {
    const stream = randomStream(7, 'equal arms');
    let [everDifferent, everByOneLook] = [0, 0];
    for (let test = 0; test < 1_000; test += 1) {
      const arms = [new ArmSums(), new ArmSums()] as const;
      let [isDifferent, isDifferentByOneLook] = [false, false];
      for (let unit = 1; unit <= 1_000; unit += 1) {
        for (const arm of arms) arm.add(drawnUnit(stream, 0));
        if (unit % 50 !== 0 || unit < 100) continue;
        const lift = reportOf(...arms).arms[1]?.lift ?? { value: 0, low: -1, high: 1 };
        isDifferent ||= lift.low > 0 || lift.high < 0;
        // What intervals for one look would say.
        const spread = (2 * unit * (5.9915 + Math.log(5.9915) + 1)) / 2_000;
        const width = Math.sqrt(2 * (1 + 1 / spread) * Math.log(Math.sqrt(spread + 1) / 0.05));
        isDifferentByOneLook ||= Math.abs(lift.value) > ((lift.high - lift.value) * 1.96) / width;
      }
      everDifferent += Number(isDifferent);
      everByOneLook += Number(isDifferentByOneLook);
    }
    expect(everDifferent).toBeLessThanOrEqual(50);
    // So the simulation can tell.
    expect(everByOneLook).toBeGreaterThan(150);
  });

  it('find a planted difference of 2 % with the probability that the plan states', () => {
    const stream = randomStream(8, 'planted');
    const armOf = (lift: number, unitCount: number): ArmSums =>
      sumsOf(Array.from({ length: unitCount }, () => drawnUnit(stream, lift)));
    const { plan } = reportOf(armOf(0, 20_000), armOf(0, 20_000));
    if (plan === null) throw new Error('there is no plan');
    let [found, foundByOneLook] = [0, 0];
    for (let test = 0; test < 200; test += 1) {
      const arms = [armOf(0, plan.unitsAlways), armOf(0.02, plan.unitsAlways)] as const;
      if (reportOf(...arms).arms[1]?.verdict === 'better') found += 1;
      const [small, lifted] = [armOf(0, plan.unitsAtOnce), armOf(0.02, plan.unitsAtOnce)];
      const [control, treatment] = reportOf(small, lifted).arms;
      const deviation = Math.sqrt((2 * varianceOf(small)) / plan.unitsAtOnce);
      if ((treatment?.mean ?? NaN) - (control?.mean ?? NaN) > 1.96 * deviation) foundByOneLook += 1;
    }
    // Three deviations of 200 draws are 0.085.
    expect(Math.abs(found / 200 - 0.8)).toBeLessThan(0.085);
    expect(Math.abs(foundByOneLook / 200 - 0.8)).toBeLessThan(0.085);
  });
});

/** Of a unit's part of the mean. */
function varianceOf(arm: ArmSums): number {
  const perUnit = arm.unitCount / arm.sum(1);
  const weights = [perUnit, (-perUnit * arm.sum(0)) / arm.sum(1), 0, 0] as const;
  return arm.covariance(weights, weights);
}

it('warns of counts that differ from the shares', () => {
  const units = (count: number): ArmSums =>
    sumsOf(Array.from({ length: count }, (): UnitSums => [1, 2, 0, 0]));
  expect(reportOf(units(8_000), units(2_000), { share: 0.2 }).warnings).toEqual([]);
  expect(reportOf(units(8_000), units(1_800), { share: 0.2 }).warnings).toEqual([
    expect.stringMatching(/^b has 1800 of 9800 units, and 1960 were expected/) as string,
  ]);
});

it('knows the normal distribution', () => {
  expect(normalBelow(0)).toBe(0.5);
  expect(normalBelow(1.959963985)).toBeCloseTo(0.975, 9);
  expect(normalBelow(-3)).toBeCloseTo(0.001349898, 9);
});
