/** `qianmo synthesize`: an advertising log with known true click probabilities. */

import { z } from 'zod';
import { parseRowCount } from '../../../coordinator/synthesize/row-count.js';
import {
  LOG_FORMATS,
  WORLD_SETTINGS,
  type LogFormat,
} from '../../../coordinator/synthesize/synthesis.js';
import { synthesize } from '../../../coordinator/synthesize/synthesize.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { CommandContext } from '../command-context.js';
import { parsedOptions } from '../usage-failure.js';

const CLICK_RATE_EXPECTED = 'expected a number above 0 and below 1';
const SEED_EXPECTED = 'expected a whole number from 0';

const rowCount = z.string().transform((text, context) => {
  try {
    return parseRowCount(text);
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    context.addIssue({ code: 'custom', message: error.report.expected ?? error.message });
    return z.NEVER;
  }
});

const OptionsSchema = z.object({
  out: z.string().min(1, 'expected a value'),
  rows: rowCount,
  setting: z.enum(WORLD_SETTINGS, `expected one of ${WORLD_SETTINGS.join(', ')}`),
  clickRate: z.coerce
    .number(CLICK_RATE_EXPECTED)
    .gt(0, CLICK_RATE_EXPECTED)
    .lt(1, CLICK_RATE_EXPECTED),
  seed: z.coerce.number(SEED_EXPECTED).int(SEED_EXPECTED).nonnegative(SEED_EXPECTED),
  adgroups: rowCount.optional(),
  users: rowCount.optional(),
  format: z.enum(['table', 'json']),
});

export async function synthesizeVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'synthesize');
  const report = await synthesize({
    rows: options.rows,
    setting: options.setting,
    meanClickRate: options.clickRate,
    seed: options.seed,
    ...(options.adgroups === undefined ? {} : { adgroupCount: options.adgroups }),
    ...(options.users === undefined ? {} : { userCount: options.users }),
    path: options.out,
    format: logFormatOf(options.out),
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
  });
  context.print(
    options.format === 'json'
      ? JSON.stringify(report)
      : [
          `advertising log ${report.path} (world: ${report.worldPath})`,
          `  rows:     ${report.rows.toLocaleString('en')}, ${report.clickCount.toLocaleString('en')} clicks, ${report.adgroupCount.toLocaleString('en')} adgroups`,
          `  logloss:  constant ${report.constantLogloss.toFixed(4)}, oracle ${report.oracleLogloss.toFixed(4)}`,
          `  speed:    ${Math.round(report.rowsPerSecond).toLocaleString('en')} rows/s`,
        ].join('\n'),
  );
}

function logFormatOf(path: string): LogFormat {
  const format = LOG_FORMATS.find((name) => path.endsWith(`.${name}`));
  if (format !== undefined) return format;
  throw new QianmoError({
    kind: 'usage',
    what: 'the ending of --out names no format',
    where: path,
    expected: LOG_FORMATS.map((name) => `.${name}`).join(', '),
    cure: 'write for example --out runs/log.csv',
  });
}
