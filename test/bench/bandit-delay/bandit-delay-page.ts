/** The page of the delayed bandit: measured regret beside the published one. */

import { at } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import type { DelayedPolicy } from './delayed-bandit.js';

export const DELAYS_STEPS = [1, 3, 10, 32, 100, 316, 1000] as const;

/** Chapelle and Li (NIPS 2011), table 1. */
const PUBLISHED: Readonly<Record<DelayedPolicy, readonly number[]>> = {
  ucb: [24_145, 24_695, 25_662, 28_148, 37_141, 77_687, 226_220],
  thompson: [9105, 9199, 9049, 9451, 11_550, 21_594, 59_256],
};
const NAMES: Readonly<Record<DelayedPolicy, string>> = { ucb: 'UCB', thompson: 'Thompson' };

export interface DelayedRegrets extends BenchHeader {
  readonly stepCount: number;
  readonly repetitions: number;
  readonly seconds: number;
  readonly cells: readonly {
    readonly policy: DelayedPolicy;
    readonly delaySteps: number;
    /** One for each repetition. */
    readonly regrets: readonly number[];
  }[];
}

export function banditDelayPage(record: DelayedRegrets): string {
  const rows = record.cells.map(({ policy, delaySteps, regrets }) => {
    const mean = regrets.reduce((a, b) => a + b, 0) / regrets.length;
    const variance =
      regrets.reduce((sum, regret) => sum + (regret - mean) ** 2, 0) / (regrets.length - 1);
    const published = at(
      PUBLISHED[policy],
      DELAYS_STEPS.findIndex((delay) => delay === delaySteps),
    );
    return {
      ratio: mean / published,
      cells: [
        NAMES[policy],
        delaySteps,
        grouped(published),
        grouped(Math.round(mean)),
        grouped(Math.round(Math.sqrt(variance / regrets.length))),
        (mean / published).toFixed(3),
      ],
    };
  });
  const within = rows.filter(({ ratio }) => Math.abs(ratio - 1) <= 0.1).length;
  return `# Thompson sampling and UCB under delay

The table of Chapelle and Li (NIPS 2011): ten items, of which one is replaced with probability 1/1000 a step, rates from
Beta(4, 4), ${grouped(record.stepCount)} steps, feedback only every so many steps. The policies are those of
\`worker/serving/exploration\`. Regret is the mean over ${record.repetitions} seeds; the published one is over 100.
${within} of ${rows.length} cells lie within 10 % of it.

${markdownTable(
  ['policy', 'feedback every', 'published regret', 'measured', 'standard error', 'ratio'],
  rows.map(({ cells }) => cells),
).join('\n')}

The paper leaves two things open. Items are replaced here when feedback comes: with replacements between, which the policy sees at once,
Thompson sampling at 1,000 steps has a regret of 33,000 to 35,000. And UCB has the smaller of two Chernoff bounds, on clicks and on impressions
without one, at the level sqrt(1/t); at these rates the second is the smaller one. The bound on clicks alone gives 30,000 at a
delay of 1, so the published figures do not come from it.

Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before; ${Math.round(record.seconds)} s. Made by
\`npm run bench:bandit-delay\`.
`;
}
