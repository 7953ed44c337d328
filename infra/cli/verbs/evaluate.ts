/** `qianmo evaluate`: compares the arms of a trained run, and writes the reports. */

import { evaluate } from '../../library/index.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, flagOption, textValue, valueOption, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';
import { printDocument } from '../command/print-document.js';

export const evaluateVerb = verb({
  name: 'evaluate',
  description: 'compare the arms of a trained run on held-out adgroups',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    predictions: valueOption(
      '--predictions <file>',
      'write per-row predictions of every arm as Parquet',
      textValue.optional(),
    ),
    fresh: flagOption('--fresh', 'train the global arm again'),
    ...watchingOptions,
    format,
  },
  takesPlugins: true,
  help: '\nExample:\n  qianmo evaluate run.yaml --predictions p.parquet',
  run: async (operands, { format, metricsPort, metricsHost, logFormat, ...choice }, context) => {
    const options = watchedOptionsOf(context, { metricsPort, metricsHost, logFormat });
    const request = { config: firstOf(operands), ...choice };
    const reports = await evaluate(request, options);
    const { evaluationDocument } =
      await import('../../../coordinator/reports/evaluation-document.js');
    const { reportsJson } = await import('../../../coordinator/scoring/report-json.js');
    if (format === 'json') context.print(reportsJson(reports));
    else for (const report of reports) printDocument(evaluationDocument(report), format, context);
  },
});
