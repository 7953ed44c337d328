/** `qianmo synthesize`: an advertising log with known true click probabilities. */

import { z } from 'zod';
import { parseRowCount } from '../../../coordinator/synthesize/row-count.js';
import {
  LOG_FORMATS,
  WORLD_SETTINGS,
  type LogFormat,
} from '../../../coordinator/synthesize/synthesis.js';
import { synthesize } from '../../../coordinator/synthesize/synthesize.js';
import { QianmoError } from '../../../shared/errors.js';
import type { CommandContext } from '../command-context.js';

const OptionsSchema = z.object({
  out: z.string().min(1),
  rows: z.string().transform(parseRowCount),
  setting: z.enum(WORLD_SETTINGS),
  clickRate: z.coerce.number().gt(0).lt(1),
  seed: z.coerce.number().int().nonnegative(),
  adgroups: z.string().transform(parseRowCount).optional(),
  users: z.string().transform(parseRowCount).optional(),
  format: z.enum(['table', 'json']),
});

export async function synthesizeVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const parsed = OptionsSchema.safeParse(rawOptions);
  if (!parsed.success) throw optionFailure(parsed.error);
  const options = parsed.data;
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

function optionFailure(error: z.ZodError): QianmoError {
  const [issue] = error.issues;
  const option = String(issue?.path[0] ?? '').replace(
    /[A-Z]/g,
    (letter) => `-${letter.toLowerCase()}`,
  );
  return new QianmoError({
    kind: 'usage',
    what: `--${option} cannot be used`,
    where: 'qianmo synthesize',
    found: issue?.message ?? error.message,
    cure: '`qianmo synthesize --help` lists the options',
  });
}
