/** A bundle that a refresh has judged on rows which neither it nor the other one had seen: `bundle-judged`. */

import { z } from 'zod';
import { counted, shortDigest } from '../names/counted.js';

const VERDICTS = {
  labelled: 'gets the label',
  rejected: 'does not get the label',
  'rolled-back': 'loses the label',
};

export const JUDGED_BUNDLE = {
  ...{ bundle: z.string(), against: z.string() },
  verdict: z.enum(['labelled', 'rejected', 'rolled-back']),
  ...{ rowCount: z.int().nonnegative(), adgroupCount: z.int().nonnegative() },
  /** Losses per row, and the interval of their difference. */
  ...{ loss: z.number(), lossAgainst: z.number(), low: z.number(), high: z.number() },
};

type JudgedBundle = Readonly<z.output<z.ZodObject<typeof JUDGED_BUNDLE>>>;

export function judgedBundleText(judged: JudgedBundle): string {
  const { bundle, against, verdict, rowCount, adgroupCount } = judged;
  const { loss, lossAgainst, low, high } = judged;
  const difference = `${signed(loss - lossAgainst)} [${signed(low)}, ${signed(high)}]`;
  const rows = `${counted(rowCount, 'later row')} of ${counted(adgroupCount, 'adgroup')}`;
  const words = `bundle ${shortDigest(bundle)} ${VERDICTS[verdict]}: loss ${loss.toFixed(4)}`;
  return `${words}, ${difference} against ${shortDigest(against)}, on ${rows}`;
}

export function judgedBundleLevel({ verdict }: Pick<JudgedBundle, 'verdict'>) {
  return verdict === 'labelled' ? 'notice' : 'warning';
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(4)}`;
}
