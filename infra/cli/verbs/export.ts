/** `qianmo export`: writes a trained run as a bundle that a ranking server reads. */

import { z } from 'zod';
import { exportChanged, exportRun } from '../../library/index.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { LATEST_LABEL } from '../../../shared/bundle/bundle-labels.js';
import { callOptionsOf } from '../command/command-context.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import {
  choiceOption,
  firstOf,
  flagOption,
  textValue,
  valueOption,
  verb,
} from '../command/verb.js';

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
    onlyChanged: flagOption(
      '--only-changed',
      "adapt only adgroups that have changed since the label's bundle, and write a delta of it",
    ),
    format,
  },
  takesPlugins: true,
  help: `
The run must be evaluated first, because validation adgroups choose what is served. An export that was
stopped goes on where it ended when it is started again.
With --only-changed, encoding and rows are those of the bundle that is changed.
Examples:
  qianmo export run.yaml --workers 2 --encoding float16
  qianmo export run.yaml --workers 2 --only-changed`,
  run: async (operands, { format, onlyChanged, encoding, rows, ...place }, context) => {
    if (onlyChanged) {
      const changed = await exportChanged(
        { config: firstOf(operands), ...place },
        callOptionsOf(context),
      );
      const { changedJson, changedText } =
        await import('../../../coordinator/reports/delta-tables.js');
      context.print(format === 'json' ? changedJson(changed) : changedText(changed));
      return;
    }
    const choice = { encoding, rows, ...place };
    const request = { config: firstOf(operands), ...choice };
    const exported = await exportRun(request, callOptionsOf(context));
    const { exportJson, exportText } =
      await import('../../../coordinator/reports/bundle-tables.js');
    context.print(
      format === 'json' ? exportJson(exported) : exportText(exported, context.outputColumns),
    );
  },
});
