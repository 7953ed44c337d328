/** `qianmo logs`: prints the events of a run from its record. */

import { readRunLog } from '../../../library/index.js';
import { callOptionsOf } from '../../command/command-context.js';
import { format } from '../../command/shared-options.js';
import { firstOf, flagOption, integerValue, valueOption, verb } from '../../command/verb.js';
import { runArgument } from './status.js';

const LAST_MAX = 1_000_000;

export const logsVerb = verb({
  name: 'logs',
  description: 'print the events of a run',
  argument: runArgument,
  options: {
    last: valueOption(
      '--last <count>',
      'begin with this many of the last events; all by default',
      integerValue(1, LAST_MAX).optional(),
    ),
    follow: flagOption('--follow', 'go on until the run ends'),
    details: flagOption('--details', 'print details as well, such as each job'),
    format,
  },
  help: `
Events of workers on other machines are in their own logs (qianmo worker --log).
Example:
  qianmo logs runs/movielens --last 20 --follow`,
  run: async (operands, { format, ...request }, context) => {
    const { logLine } = await import('../../../../coordinator/reports/run-documents.js');
    await readRunLog(
      { run: firstOf(operands), ...request },
      (event) => context.print(logLine(event, format)),
      callOptionsOf(context),
    );
  },
});
