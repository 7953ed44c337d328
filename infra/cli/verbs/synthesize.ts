/** `qianmo synthesize`: writes an advertising log with known click probabilities. */

import { z } from 'zod';
import { parseRowCount } from '../../../coordinator/synthesize/row-count.js';
import { WORLD_SETTINGS } from '../../../coordinator/synthesize/synthesis.js';
import { QianmoError, synthesize, type SynthesisReport } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { choiceOption, textValue, valueOption, verb } from '../command/verb.js';

const CLICK_RATE_EXPECTED = 'expected a number above 0 and below 1';
const SEED_EXPECTED = 'expected a whole number from 0';

const RowCountSchema = z.string().transform((text, context) => {
  try {
    return parseRowCount(text);
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    context.addIssue({ code: 'custom', message: error.report.expected ?? error.message });
    return z.NEVER;
  }
});

const ClickRateSchema = z.coerce
  .number(CLICK_RATE_EXPECTED)
  .gt(0, CLICK_RATE_EXPECTED)
  .lt(1, CLICK_RATE_EXPECTED);

const SeedSchema = z.coerce.number(SEED_EXPECTED).int(SEED_EXPECTED).nonnegative(SEED_EXPECTED);

export const synthesizeVerb = verb({
  name: 'synthesize',
  description: 'write an advertising log whose true click probabilities are known',
  options: {
    out: valueOption(
      '--out <file>',
      'file to write; its name ends in .csv, .csv.gz or .parquet',
      textValue,
      {
        isRequired: true,
      },
    ),
    rows: valueOption('--rows <count>', 'impressions, as 760000, 760k or 10M', RowCountSchema, {
      defaultText: '1M',
    }),
    setting: choiceOption(
      '--setting <name>',
      'how far adgroups deviate from what their attributes explain',
      z.enum(WORLD_SETTINGS),
      'strong',
    ),
    clickRate: valueOption(
      '--click-rate <rate>',
      'mean click rate, between 0 and 1',
      ClickRateSchema,
      { defaultText: '0.03' },
    ),
    seed: valueOption('--seed <seed>', 'the same seed gives the same bytes', SeedSchema, {
      defaultText: '1',
    }),
    adgroups: valueOption(
      '--adgroups <count>',
      'number of adgroups; by default in proportion to the rows',
      RowCountSchema.optional(),
    ),
    users: valueOption(
      '--users <count>',
      'number of users; by default in proportion to the rows',
      RowCountSchema.optional(),
    ),
    format,
  },
  help: '\nExample:\n  qianmo synthesize --rows 10M --out runs/log.csv',
  run: async (_operands, { format, ...request }, context) => {
    const report = await synthesize(request, callOptionsOf(context));
    context.print(format === 'json' ? JSON.stringify(report) : reportLines(report));
  },
});

function reportLines(report: SynthesisReport): string {
  const count = (value: number): string => value.toLocaleString('en');
  return [
    `advertising log ${report.path} (world: ${report.worldPath})`,
    `  rows:     ${count(report.rows)}, ${count(report.clickCount)} clicks, ${count(report.adgroupCount)} adgroups`,
    `  logloss:  constant ${report.constantLogloss.toFixed(4)}, oracle ${report.oracleLogloss.toFixed(4)}`,
    `  speed:    ${count(Math.round(report.rowsPerSecond))} rows/s`,
  ].join('\n');
}
