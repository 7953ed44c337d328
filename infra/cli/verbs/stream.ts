/** `qianmo stream`: compares a learned update rule with tuned baselines over logs, row by row. */

import { comparisonLines } from '../../../coordinator/reports/streaming/rule-comparison-table.js';
import { stream } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { firstOf, verb } from '../command/verb.js';

export const streamVerb = verb({
  name: 'stream',
  description: 'learn an update rule on logs in order of time, and compare it with tuned baselines',
  argument: { name: '<stream.yaml>', description: 'the stream config' },
  options: { format },
  help: '\nExample:\n  qianmo stream infra/examples/movielens-stream.yaml',
  run: async (operands, { format }, context) => {
    const result = await stream({ config: firstOf(operands) }, callOptionsOf(context));
    context.print(
      format === 'json'
        ? JSON.stringify(result.record)
        : comparisonLines(result.comparison).join('\n'),
    );
  },
});
