/**
 * Which blocks serve each bucket: worked by hand, and inside an evaluation of the formula model.
 */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseBlocks,
  chosenLogits,
  type ValidatedAdgroup,
} from '../../../coordinator/evaluation/block-choice.js';
import type { BlockChoice } from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { evaluateFormula, formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const settings = {
  ...{ sizeBucketEdges: [3, 10], bootstrapSamples: 200, confidence: 0.9, seed: 3 },
  isShiftAlone: false,
};

/**
 * `count` adgroups of this size, each with 10 impressions and this difference of its summed loss.
 */
function adgroupsOf(
  count: number,
  supportRowCount: number,
  difference: number,
): ValidatedAdgroup[] {
  return Array.from({ length: count }, () => ({
    supportRowCount,
    impressions: 10,
    adaptedLoss: 4 + difference,
    unadaptedLoss: 4,
  }));
}

const servesOf = (choices: readonly BlockChoice[]): string[] =>
  choices.map(({ name, serves, decidedBy }) => `${name} ${serves} by ${decidedBy}`);

describe('the choice of blocks', () => {
  it('serves each bucket the blocks that were better there', () => {
    const choices = chooseBlocks(
      [...adgroupsOf(12, 3, -1), ...adgroupsOf(12, 4, 2), ...adgroupsOf(12, 11, -0.5)],
      settings,
    );
    expect(servesOf(choices)).toEqual([
      '0-3 adapted by bucket',
      '4-10 unadapted by bucket',
      '>10 adapted by bucket',
    ]);
    expect(choices.map(({ difference }) => difference?.value)).toEqual([-0.1, 0.2, -0.05]);
  });

  it('uses all adgroups for a bucket with few or no adgroups', () => {
    // Over all: (9 * -5 + 12 * 3) / 210 impressions = -0.043
    const few = chooseBlocks([...adgroupsOf(9, 20, -5), ...adgroupsOf(12, 5, 3)], settings);
    expect(servesOf(few)).toEqual([
      '0-3 adapted by all',
      '4-10 unadapted by bucket',
      '>10 adapted by all',
    ]);
    expect(few[2]?.difference?.value).toBeCloseTo(-0.5, 12);
    const worse = chooseBlocks([...adgroupsOf(9, 20, -5), ...adgroupsOf(12, 5, 4)], settings);
    expect(servesOf(worse)[2]).toBe('>10 unadapted by all');
  });

  it('needs a difference below 0: blocks that are only equal are not worth adapting', () => {
    expect(servesOf(chooseBlocks(adgroupsOf(12, 3, 0), settings))[0]).toBe(
      '0-3 unadapted by bucket',
    );
  });

  it('serves a shift alone unless it is two standard errors worse, in a bucket or over all', () => {
    const isShiftAlone = true;
    // 12 adgroups of 10 impressions, half of them 0.3 worse and half 0.1 better by impression: D = 0.1 and
    // SE = sqrt(12 / 11 * 12 * 2^2) / 120 = 0.0603. All 0.04 worse than that, D = 0.14 is 2.32 of the same error.
    const within = [...adgroupsOf(6, 3, 3), ...adgroupsOf(6, 3, -1)];
    const beyond = [...adgroupsOf(6, 4, 3.4), ...adgroupsOf(6, 4, -0.6)];
    const choices = chooseBlocks([...within, ...beyond, ...adgroupsOf(3, 12, 0)], {
      ...settings,
      isShiftAlone,
    });
    // Over all, D = 28.8 / 270 = 0.107 and SE = 0.038.
    expect(servesOf(choices)).toEqual([
      '0-3 adapted by bucket',
      '4-10 unadapted by bucket',
      '>10 unadapted by all',
    ]);
    const equal = chooseBlocks(adgroupsOf(12, 3, 0), { ...settings, isShiftAlone });
    expect(servesOf(equal)[0]).toBe('0-3 adapted by bucket');
    expect(servesOf(chooseBlocks(within, settings))[0]).toBe('0-3 unadapted by bucket');
    const alone = chooseBlocks(adgroupsOf(1, 3, 1), { ...settings, isShiftAlone });
    expect(servesOf(alone)[0]).toBe('0-3 unadapted by all');
  });

  it('weights adgroups by their impressions', () => {
    const adgroups = adgroupsOf(11, 3, -1);
    const heavy = { supportRowCount: 3, impressions: 1000, adaptedLoss: 40, unadaptedLoss: 20 };
    expect(servesOf(chooseBlocks([...adgroups, heavy], settings))[0]).toContain('unadapted');
  });

  it('copies whole adgroups of one arm or the other', () => {
    const some = fc.array(fc.tuple(fc.nat(15), fc.nat(4)), { minLength: 1, maxLength: 20 });
    const choices = chooseBlocks(
      [...adgroupsOf(12, 3, -1), ...adgroupsOf(12, 4, 1), ...adgroupsOf(12, 11, -1)],
      settings,
    );
    fc.assert(
      fc.property(some, (adgroups) => {
        const starts = [0];
        for (const [, rowCount] of adgroups) starts.push((starts.at(-1) ?? 0) + rowCount);
        const total = starts.at(-1) ?? 0;
        const served = chosenLogits(
          choices,
          { adapted: new Float32Array(total).fill(1), unadapted: new Float32Array(total) },
          {
            starts: Int32Array.from(starts),
            clicks: new Float32Array(total),
            impressions: new Float32Array(total),
          },
          adgroups.map(([supportRowCount]) => supportRowCount),
        );
        expect([...served]).toEqual(
          adgroups.flatMap(([size, rowCount]) =>
            Array<number>(rowCount).fill(size >= 4 && size <= 10 ? 0 : 1),
          ),
        );
      }),
    );
  });
});

describe('the arm meta-chosen', () => {
  const store = tinyTaskStore({ taskCount: 150, counts: true });
  const loglossIn = (
    slice: Awaited<ReturnType<typeof evaluateFormula>>['slices'][number] | undefined,
    arm: ArmName,
  ): number => slice?.arms.find((each) => each.arm === arm)?.metrics.logloss ?? NaN;

  it('has in each bucket the figures of the blocks served there, whatever the test rows say', async () => {
    // A rate so large that adaptation hurts some buckets and helps others.
    const config = formulaConfig({ evaluation: { innerRates: [8], innerSteps: [1] } });
    const report = await evaluateFormula({ store, config });
    const buckets = report.selection.blocks?.buckets ?? [];
    expect(servesOf(buckets)).toEqual([
      '0-3 unadapted by all',
      '4-6 adapted by bucket',
      '>6 unadapted by bucket',
    ]);
    for (const { name, serves } of buckets) {
      const slice = report.slices.find((each) => each.name === name);
      expect(loglossIn(slice, 'meta-chosen')).toBe(loglossIn(slice, `meta-${serves}`));
    }
    expect(asText(evaluationDocument(report))).toMatch(
      /Blocks that meta-chosen serves:[^]*0-3 +(un)?adapted/,
    );
    expect(asPage(evaluationDocument(report))).toContain('Blocks that meta-chosen serves');
  });

  it('goes by the rows that an adgroup has at each point of a k-shot curve', async () => {
    const config = formulaConfig({
      evaluation: { innerRates: [8], innerSteps: [1], shots: [2, 50] },
    });
    const report = await evaluateFormula({ store, config });
    const [two] = report.protocols?.[0]?.points ?? [];
    const smallest = report.selection.blocks?.buckets[0]?.serves;
    expect(loglossIn(two?.slice, 'meta-chosen')).toBe(
      loglossIn(two?.slice, `meta-${smallest ?? 'adapted'}`),
    );
    expect(loglossIn(two?.slice, 'meta-adapted')).not.toBe(loglossIn(two?.slice, 'meta-unadapted'));
  });

  it('is decided without an adaptation of its own: the arm can be requested alone', async () => {
    const config = formulaConfig({ evaluation: { arms: ['meta-chosen'] } });
    const report = await evaluateFormula({ store, config, globalBias: null });
    expect(report.arms).toEqual(['meta-chosen']);
    expect(report.selection.chosen.map(({ arm }) => arm)).toEqual(['meta-adapted']);
  });
});
