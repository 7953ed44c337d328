/** `qianmo refresh`: appends new logs to a run's task store and serves what has changed. */

import { LATEST_LABEL } from '../../../shared/bundle/bundle-labels.js';
import { refresh } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, integerValue, textValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

export const refreshVerb = verb({
  name: 'refresh',
  description: 'append new logs to the task store and export what has changed',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    logs: valueOption(
      '--logs <path>',
      'the new logs: a file, a folder, a glob or an s3:// address',
      textValue,
      { isRequired: true },
    ),
    outerSteps: valueOption(
      '--outer-steps <n>',
      'outer steps of meta-training on the new rows, too; all adgroups are then adapted again',
      integerValue(1, 1_000_000).optional(),
    ),
    out: valueOption(
      '--out <address>',
      "folder or s3:// prefix of the bundles; by default bundles in the run's output",
      textValue.optional(),
    ),
    label: valueOption('--label <name>', 'the label that is moved to the new bundle', textValue, {
      defaultText: LATEST_LABEL,
    }),
    format,
  },
  takesPlugins: true,
  help: `
The trunk stays as it was trained, and only adgroups with new rows are adapted again. With --outer-steps the
trunk is trained further, and all adgroups are adapted. Log files that were appended before are passed over. A
refresh that was stopped goes on when it is started again.
Examples:
  qianmo refresh run.yaml --logs logs/2026-12-01.csv.gz
  qianmo refresh run.yaml --logs 'logs/2026-12-*' --outer-steps 50`,
  run: async (operands, { format, ...choice }, context) => {
    const refreshed = await refresh(
      { config: firstOf(operands), ...choice },
      callOptionsOf(context),
    );
    const { refreshDocument } = await import('../../../coordinator/reports/bundle-documents.js');
    printDocument(refreshDocument(refreshed), format, context);
  },
});
