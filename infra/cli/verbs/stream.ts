/** `qianmo stream`: compares a learned update rule with tuned baselines over logs, row by row. */

import { stream } from '../../library/index.js';
import { dispatchOptions, format } from '../command/shared-options.js';
import { firstOf, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';
import { printDocument } from '../command/print-document.js';

export const streamVerb = verb({
  name: 'stream',
  description: 'learn an update rule on logs in order of time, and compare it with tuned baselines',
  argument: { name: '<stream.yaml>', description: 'the stream config' },
  options: {
    ...dispatchOptions,
    ...watchingOptions,
    format,
  },
  help: `
Example:
  qianmo stream infra/examples/movielens-stream.yaml
The meta-gradients of the learned rule are computed in the command itself. With --redis or --processes, others compute a pair of
windows each, learned.pairsPerStep of them at once, with the same result.`,
  run: async (operands, { format, metricsPort, metricsHost, logFormat, ...choice }, context) => {
    const options = watchedOptionsOf(context, { metricsPort, metricsHost, logFormat });
    const result = await stream({ config: firstOf(operands), ...choice }, options);
    const { rulesDocument } =
      await import('../../../coordinator/reports/rule-comparison-document.js');
    printDocument({ ...rulesDocument(result.comparison), data: result.record }, format, context);
  },
});
