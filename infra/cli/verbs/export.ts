/** `qianmo export`: writes a trained run as a bundle that a ranking server reads. */

import { z } from 'zod';
import { exportRun } from '../../library/index.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { LATEST_LABEL } from '../../../shared/bundle/bundle-labels.js';
import { callOptionsOf } from '../command/command-context.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { choiceOption, firstOf, textValue, valueOption, verb } from '../command/verb.js';

export const exportVerb = verb({
  name: 'export',
  description: 'adapt every adgroup and write a bundle for ranking servers',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    out: valueOption(
      '--out <address>',
      "folder or s3:// prefix of the bundles; by default bundles in the run's output",
      textValue.optional(),
    ),
    encoding: choiceOption(
      '--encoding <encoding>',
      'how the values of personal blocks are stored',
      z.enum(BLOCK_ENCODINGS),
      'float32',
    ),
    rows: choiceOption(
      '--rows <rows>',
      'the rows that adgroups adapt on: support rows, as evaluated, or all rows of the store',
      z.enum(['support', 'all']),
      'support',
    ),
    label: valueOption('--label <name>', 'the label that is moved to the bundle', textValue, {
      defaultText: LATEST_LABEL,
    }),
    format,
  },
  takesPlugins: true,
  help: `
The run must be evaluated first, because validation adgroups choose what is served. An export that was
stopped goes on where it ended when it is started again.
Example:
  qianmo export run.yaml --workers 2 --encoding float16`,
  run: async (operands, { format, ...choice }, context) => {
    const request = { config: firstOf(operands), ...choice };
    const exported = await exportRun(request, callOptionsOf(context));
    const { exportJson, exportText } =
      await import('../../../coordinator/reports/bundle-tables.js');
    context.print(
      format === 'json' ? exportJson(exported) : exportText(exported, context.outputColumns),
    );
  },
});
