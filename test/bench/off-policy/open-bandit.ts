/** The Open Bandit data: impressions of fashion items, logged by a uniform policy and by Thompson sampling. */

import { execFileSync } from 'node:child_process';
import { at, numberAt } from '../../../shared/base/arrays.js';

export const CAMPAIGNS = ['men', 'women'] as const;
export type Campaign = (typeof CAMPAIGNS)[number];
export type LoggingPolicy = 'random' | 'bts';

const BYTE_COUNT_MAX = 256 * 1024 * 1024;
const POSITION_COUNT = 3;
const ITEM_COUNT: Readonly<Record<Campaign, number>> = { men: 34, women: 46 };
/** Impressions at the mean rate that smooth the rate of an item. */
const SMOOTHING = 5;

interface OpenBanditLog {
  readonly items: readonly number[];
  /** 0, 1 or 2. */
  readonly positions: readonly number[];
  readonly rewards: readonly number[];
  readonly propensities: readonly number[];
}

export function readOpenBandit(
  folder: string,
  policy: LoggingPolicy,
  campaign: Campaign,
): OpenBanditLog {
  const path = `${folder}/${policy}_${campaign}.csv.xz`;
  const text = execFileSync('xz', ['-dc', path], { encoding: 'utf8', maxBuffer: BYTE_COUNT_MAX });
  const [head = '', ...lines] = text.trimEnd().split('\n');
  const names = head.split(',');
  const rows = lines.map((line) => line.split(','));
  const column = (name: string): number[] => {
    const place = names.indexOf(name);
    return rows.map((cells) => Number(at(cells, place)));
  };
  return {
    items: column('item_id'),
    positions: column('position').map((position) => position - 1),
    rewards: column('click'),
    propensities: column('propensity_score'),
  };
}

/** The probability of each item at each position, `[item][position]`. */
export type ChoiceProbabilities = readonly (readonly number[])[];

export function uniformPolicy(campaign: Campaign): ChoiceProbabilities {
  const count = ITEM_COUNT[campaign];
  return Array.from({ length: count }, () => Array<number>(POSITION_COUNT).fill(1 / count));
}

/** A model of the reward: the click rate of each item in the log, smoothed. */
export function itemRates({ items, rewards }: OpenBanditLog, campaign: Campaign): number[] {
  const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
  const clicks = Array<number>(ITEM_COUNT[campaign]).fill(SMOOTHING * mean);
  const shown = Array<number>(ITEM_COUNT[campaign]).fill(SMOOTHING);
  for (const [row, item] of items.entries()) {
    clicks[item] = numberAt(clicks, item) + numberAt(rewards, row);
    shown[item] = numberAt(shown, item) + 1;
  }
  return clicks.map((count, item) => count / numberAt(shown, item));
}

/** The table that `qianmo ope` reads. */
export function choiceTable(
  log: OpenBanditLog,
  target: ChoiceProbabilities,
  rates: readonly number[],
): string {
  const expectedAt = Array.from({ length: POSITION_COUNT }, (_, position) =>
    target.reduce(
      (sum, chances, item) => sum + numberAt(chances, position) * numberAt(rates, item),
      0,
    ),
  );
  const lines = log.items.map((item, row) => {
    const position = numberAt(log.positions, row);
    return [
      numberAt(log.rewards, row),
      numberAt(log.propensities, row),
      numberAt(at(target, item), position),
      numberAt(rates, item),
      numberAt(expectedAt, position),
    ].join(',');
  });
  return `reward,propensity,target,estimate,target_estimate\n${lines.join('\n')}\n`;
}
