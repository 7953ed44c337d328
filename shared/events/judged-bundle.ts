/** A bundle that a refresh has judged on rows which neither it nor the other one had seen: `bundle-judged`. */

import { z } from 'zod';
import { add, set, type MetricUpdate } from '../metrics/metric-definitions.js';
import { counted, shortDigest } from '../names/counted.js';
import { BUNDLE_VERDICTS } from '../names/event-terms.js';

const VERDICTS: Readonly<Record<(typeof BUNDLE_VERDICTS)[number], string>> = {
  labelled: 'gets the label',
  rejected: 'does not get the label',
  'rolled-back': 'loses the label',
};

const shape = {
  ...{ bundle: z.string(), against: z.string() },
  verdict: z.enum(BUNDLE_VERDICTS),
  ...{ rowCount: z.int().nonnegative(), adgroupCount: z.int().nonnegative() },
  /** Losses per row, and the interval of their difference. */
  ...{ loss: z.number(), lossAgainst: z.number(), low: z.number(), high: z.number() },
};

type JudgedBundle = Readonly<z.output<z.ZodObject<typeof shape>>>;

export const JUDGED_BUNDLE = {
  shape,
  level: ({ verdict }: JudgedBundle) =>
    verdict === 'labelled' ? ('notice' as const) : ('warning' as const),
  text: ({ bundle, against, verdict, rowCount, adgroupCount, ...losses }: JudgedBundle) => {
    const { loss, lossAgainst, low, high } = losses;
    const difference = `${signed(loss - lossAgainst)} [${signed(low)}, ${signed(high)}]`;
    const rows = `${counted(rowCount, 'later row')} of ${counted(adgroupCount, 'adgroup')}`;
    const words = `bundle ${shortDigest(bundle)} ${VERDICTS[verdict]}: loss ${loss.toFixed(4)}`;
    return `${words}, ${difference} against ${shortDigest(against)}, on ${rows}`;
  },
  metrics: ({ verdict, loss, lossAgainst }: JudgedBundle): MetricUpdate[] => [
    add('qianmo_bundles_judged_total', { verdict }),
    set('qianmo_judged_loss', { of: 'bundle' }, loss),
    set('qianmo_judged_loss', { of: 'against' }, lossAgainst),
  ],
};

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(4)}`;
}
