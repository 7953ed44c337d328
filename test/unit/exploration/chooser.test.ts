/** Slates: which slots explore, whom, how often, and with which propensity in the record. */

import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { Decision, DecisionInput } from '../../../shared/config/decision-record.js';
import { rowRecordsIn } from '../../../shared/config/row-record.js';
import { decide, isRepeatable, judgedSlots } from '../../../worker/serving/exploration/chooser.js';
import {
  CANDIDATES,
  candidateOf,
  decisionLine,
  inputOf,
  rowLogHead,
  settingsOf,
} from '../../fixtures/decision-input.js';

function decisionsOf(input: DecisionInput, count: number): Decision[] {
  return Array.from({ length: count }, (_, index) => decide({ ...input, id: `request-${index}` }));
}

function shareOf(decisions: readonly Decision[], slot: number, adgroup: string): number {
  const count = decisions.filter(({ decided }) => decided[slot - 1]?.adgroup === adgroup).length;
  return count / decisions.length;
}

const FIXED = { kind: 'fixed', share: 0.2 } as const;

describe('a slate', () => {
  it('is the order of value times probability without exploration', () => {
    const { decided, isShown } = decide(inputOf(settingsOf({ mode: 'off' }), { slots: 3 }));
    expect(isShown).toBe(true);
    expect(decided.map(({ adgroup, propensity }) => [adgroup, propensity])).toEqual([
      ['giant', 1],
      ['small', 1],
      ['new', 1],
    ]);
  });

  it('explores in declared slots only, with the share and the propensities that it records', () => {
    const settings = settingsOf({ policy: 'epsilon-greedy', share: FIXED, slots: [1] });
    const decisions = decisionsOf(inputOf(settings), 2000);
    for (const [adgroup, propensity] of [
      ['giant', 0.8],
      ['small', 0.1],
      ['new', 0.1],
    ] as const) {
      expect(Math.abs(shareOf(decisions, 1, adgroup) - propensity)).toBeLessThan(0.025);
      const recorded = decisions.flatMap(({ decided: [first] }) =>
        first?.adgroup === adgroup ? [first.propensity] : [],
      );
      expect(Math.max(...recorded)).toBeCloseTo(propensity, 12);
      expect(Math.min(...recorded)).toBeCloseTo(propensity, 12);
    }
    expect(new Set(decisions.map(({ decided }) => decided[1]?.propensity))).toEqual(new Set([1]));
  });

  it.each(['thompson', 'ucb'] as const)(
    'records propensities of %s that match the frequencies',
    (policy) => {
      const settings = settingsOf({ policy, share: { kind: 'fixed', share: 0.5 }, slots: [1, 2] });
      const decisions = decisionsOf(inputOf(settings), 2000);
      for (const { adgroup } of CANDIDATES) {
        const found = decisions.find(({ decided }) => decided[0]?.adgroup === adgroup);
        const share = shareOf(decisions, 1, adgroup);
        expect(Math.abs((found?.decided[0]?.propensity ?? 0) - share)).toBeLessThan(0.035);
      }
    },
  );

  it('gives each class of advertisers its share', () => {
    const settings = settingsOf({
      policy: 'epsilon-greedy',
      share: { kind: 'fixed', share: 0 },
      classes: [
        { name: 'small', share: { kind: 'fixed', share: 0.3 } },
        { name: 'tiny', share: { kind: 'fixed', share: 0.1 } },
      ],
    });
    const candidates = [
      candidateOf('best', { probability: 0.1, impressions: 5000 }),
      candidateOf('s1', { advertiserClass: 'small' }),
      candidateOf('s2', { advertiserClass: 'small' }),
      candidateOf('t1', { advertiserClass: 'tiny' }),
      candidateOf('other', { advertiserClass: 'unheard of' }),
    ];
    const decisions = decisionsOf(inputOf(settings, { candidates }), 3000);
    const expected = { best: 0.6, s1: 0.15, s2: 0.15, t1: 0.1, other: 0 };
    for (const [adgroup, share] of Object.entries(expected))
      expect(Math.abs(shareOf(decisions, 1, adgroup) - share)).toBeLessThan(0.03);
  });

  it('bounds the expected loss', () => {
    // An equal draw of small and new loses 0.05 - 0.025 = 0.025; 1 % of 0.05 allows a share of 0.02.
    const settings = settingsOf({
      policy: 'epsilon-greedy',
      share: { kind: 'loss-bound', lossMax: 0.01, shareMax: 0.2 },
    });
    const decision = decisionsOf(inputOf(settings), 200).find(
      ({ decided }) => !decided[0]?.isExploration,
    );
    expect(decision?.decided[0]?.propensity).toBeCloseTo(0.98, 12);
  });

  it.each(['epsilon-greedy', 'thompson'] as const)(
    'bounds the expected loss of all classes and slots together, by %s',
    (policy) => {
      // Five classes, each of which could lose as much as the slot may.
      const share = { kind: 'loss-bound', lossMax: 0.01, shareMax: 0.2 } as const;
      const names = ['a', 'b', 'c', 'd'];
      const slots = [1, 2, 3];
      const classes = names.map((name) => ({ name, share }));
      const settings = settingsOf({ policy, slots, share, classes });
      const candidates = [
        ...[0.05, 0.049, 0.048].map((probability, place) =>
          candidateOf(`known${place}`, { probability, impressions: 5000 }),
        ),
        ...[...names, null, null].map((advertiserClass, place) =>
          candidateOf(`new${place}`, { probability: 0.01, advertiserClass }),
        ),
      ];
      const decisions = decisionsOf(inputOf(settings, { candidates, slots: 3 }), 400);
      const best = 0.05 + 0.049 + 0.048;
      // Each slot is expected given the slots before.
      const slates = decisions.map((decision) =>
        judgedSlots(decision, null).reduce((sum, slot) => sum + slot.expectedOfTarget, 0),
      );
      // Where nothing was explored before, each slot loses what it may.
      expect(1 - Math.min(...slates) / best).toBeCloseTo(0.01, 9);
    },
  );

  it('lets open impressions count for the cut-off', () => {
    const settings = settingsOf({
      share: { kind: 'fixed', share: 1 },
      cutOff: { impressions: 20 },
    });
    const chosenWith = (openImpressions: number): string | undefined => {
      const fresh = candidateOf('new', { impressions: 5, learnedImpressions: 4, openImpressions });
      const candidates = [candidateOf('giant', { probability: 0.05, impressions: 5000 }), fresh];
      return decide(inputOf(settings, { candidates })).decided[0]?.adgroup;
    };
    expect([chosenWith(10), chosenWith(11)]).toEqual(['new', 'giant']);
  });
});

describe('a record', () => {
  const settings = settingsOf({ policy: 'thompson', share: { kind: 'fixed', share: 0.5 } });

  it('repeats bit for bit after it was written and read', () => {
    for (const decision of decisionsOf(inputOf(settings), 50)) {
      const [read] = rowRecordsIn(
        rowLogHead(decision.input.settings) + decisionLine(decision),
        'log',
      );
      expect(canonicalJson(read)).toBe(canonicalJson(decision));
      expect(read?.kind === 'decision' && isRepeatable(read)).toBe(true);
    }
  });

  it.each([
    ['text', 'not JSON'],
    ['{"kind":"ranking"}', 'shown'],
    [
      '{"kind":"feedback","decision":["a"],"slot":[0],"reward":[1],"value":[null],"epochMs":[1]}',
      'slot',
    ],
  ])('that is none is refused: %s', (line, found) => {
    const text = `${rowLogHead(settings)}${line}\n`;
    expect(() => [...rowRecordsIn(text, 'log')]).toThrow(
      expect.objectContaining({
        report: expect.objectContaining({
          ...{ where: 'log:2', found: expect.stringContaining(found) as string },
        }) as object,
      }) as Error,
    );
  });

  it('that has no end yet is none', () => {
    const [decision] = decisionsOf(inputOf(settings), 1);
    const text = rowLogHead(settings) + decisionLine(decision!);
    expect([...rowRecordsIn(text.slice(0, -1), 'log')]).toEqual([]);
  });
});

describe('a decision under other settings', () => {
  it('multiplies the weights of the slots before', () => {
    const logged = settingsOf({ policy: 'epsilon-greedy', share: FIXED, slots: [1, 2] });
    const target = settingsOf({
      policy: 'epsilon-greedy',
      share: { kind: 'fixed', share: 0.4 },
      slots: [1, 2],
    });
    const decision = decisionsOf(inputOf(logged), 100).find(
      ({ decided }) => decided[0]?.adgroup === 'new',
    );
    if (decision === undefined) throw new Error('somebody explores');
    const [first, second] = judgedSlots(decision, target);
    expect(first?.weight).toBeCloseTo(2, 12);
    // 0.6 giant, 0.2 small, 0.2 new: 0.6 0.05 + 0.2 0.03 + 0.2 0.02
    expect(first?.expectedOfTarget).toBeCloseTo(0.04, 12);
    // Then giant is there with 0.6 instead of 0.8, because only small can be explored.
    if (decision.decided[1]?.adgroup === 'giant')
      expect(second?.weight).toBeCloseTo((2 * 0.6) / 0.8, 12);
    else expect(second?.weight).toBeCloseTo(2 * 2, 12);
  });
});
