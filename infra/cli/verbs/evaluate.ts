/** `qianmo evaluate`: compares the arms of a trained run, and writes the reports. */

import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import { evaluate } from '../../library/index.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, flagOption, textValue, valueOption, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';

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
    const { asText } = await import('../../../coordinator/reports/document/as-text.js');
    const textOf = (report: EvaluationReport): string =>
      asText(evaluationDocument(report), context.outputColumns);
    context.print(format === 'json' ? reportsJson(reports) : reports.map(textOf).join('\n\n\n'));
  },
});
