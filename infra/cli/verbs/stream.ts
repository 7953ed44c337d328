/** `qianmo stream`: compares a learned update rule with tuned baselines over logs, row by row. */

import { stream } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { dispatchOptions, format } from '../command/shared-options.js';
import { firstOf, flagOption, verb } from '../command/verb.js';

export const streamVerb = verb({
  name: 'stream',
  description: 'learn an update rule on logs in order of time, and compare it with tuned baselines',
  argument: { name: '<stream.yaml>', description: 'the stream config' },
  options: {
    ...dispatchOptions,
    inProcess: flagOption('--in-process', 'compute in this process, without queue and workers', {
      conflictsWith: 'workers',
    }),
    format,
  },
  help: `
Example:
  qianmo stream infra/examples/movielens-stream.yaml --workers 2
Workers compute the meta-gradients of the learned rule, a pair of windows each: learned.pairsPerStep of them at once.
Without any of --workers, --redis and queue.redisUrl they are computed in this process, with the same result.`,
  run: async (operands, { format, ...choice }, context) => {
    const result = await stream({ config: firstOf(operands), ...choice }, callOptionsOf(context));
    const { comparisonLines } =
      await import('../../../coordinator/reports/streaming/rule-comparison-table.js');
    context.print(
      format === 'json'
        ? JSON.stringify(result.record)
        : comparisonLines(result.comparison).join('\n'),
    );
  },
});
