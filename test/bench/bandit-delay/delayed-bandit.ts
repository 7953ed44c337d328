/**
 * The bandit of Chapelle and Li (NIPS 2011, table 1), on the product's policies: ten items, of which one retires with
 * probability 1/1000 a step, rates from Beta(4, 4), and feedback only every so many steps. Items are replaced
 * when feedback comes, which is the reading that gives the published figures: within a period the policy
 * knows nothing new, of items or of rewards.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { ExplorationConfigSchema } from '../../../shared/config/exploration-config.js';
import { betaDraw } from '../../../worker/serving/exploration/distributions.js';
import { policyOf } from '../../../worker/serving/exploration/policies.js';

export const DELAYED_POLICIES = ['ucb', 'thompson'] as const;
export type DelayedPolicy = (typeof DELAYED_POLICIES)[number];

const ITEM_COUNT = 10;
const REPLACED_CHANCE = 1e-3;
const RATES = { a: 4, b: 4 };
/** Beta(1, 1): a rate of a half, worth two impressions. UCB has no prior. */
const STRENGTH: Readonly<Record<DelayedPolicy, number>> = { ucb: 0, thompson: 2 };

interface Item {
  readonly adgroup: string;
  readonly value: number;
  readonly probability: number;
  readonly learnedImpressions: number;
  impressions: number;
  rewards: number;
}

interface DelayedBandit {
  readonly policy: DelayedPolicy;
  readonly delaySteps: number;
  readonly stepCount: number;
  readonly seed: number;
}

/** The sum over all steps of the best rate minus the rate of the chosen item. */
export function regretOf({ policy: name, delaySteps, stepCount, seed }: DelayedBandit): number {
  const policy = policyOf(ExplorationConfigSchema.parse({ policy: name }));
  const world = randomStream(seed, 'delayed bandit', name, delaySteps);
  const stream = randomStream(seed, 'policy', name, delaySteps);
  const rates = Float64Array.from({ length: ITEM_COUNT }, () => betaDraw(RATES, world));
  const items = Array.from({ length: ITEM_COUNT }, (_, index) => itemOf(index));
  const strengths = items.map(() => STRENGTH[name]);
  const [impressions, rewards] = [new Float64Array(ITEM_COUNT), new Float64Array(ITEM_COUNT)];
  let regret = 0;
  for (let start = 0; start < stepCount; start += delaySteps) {
    const end = Math.min(start + delaySteps, stepCount);
    const input = { candidates: items, strengths, rounds: start + 1, weight: 1, context: null };
    const best = rates.reduce((a, b) => Math.max(a, b));
    // Without randomness, the choice is the same until feedback comes.
    const fixed = name === 'ucb' ? policy.choose(input, stream) : null;
    for (let step = start; step < end; step += 1) {
      const chosen = fixed ?? policy.choose(input, stream);
      const rate = float64At(rates, chosen);
      regret += best - rate;
      impressions[chosen] = float64At(impressions, chosen) + 1;
      if (world.uniform() < rate) rewards[chosen] = float64At(rewards, chosen) + 1;
    }
    for (let index = 0; index < ITEM_COUNT; index += 1) {
      const item = at(items, index);
      item.impressions += float64At(impressions, index);
      item.rewards += float64At(rewards, index);
    }
    impressions.fill(0);
    rewards.fill(0);
    replaceItems(items, rates, end - start, world);
  }
  return regret;
}

function itemOf(index: number): Item {
  return {
    adgroup: `item ${index}`,
    value: 1,
    probability: 0.5,
    learnedImpressions: 0,
    impressions: 0,
    rewards: 0,
  };
}

function replaceItems(
  items: Item[],
  rates: Float64Array,
  stepCount: number,
  world: RandomStream,
): void {
  for (let step = 0; step < stepCount; step += 1) {
    if (world.uniform() >= REPLACED_CHANCE) continue;
    const index = world.below(ITEM_COUNT);
    rates[index] = betaDraw(RATES, world);
    Object.assign(at(items, index), itemOf(index));
  }
}
