/** `qianmo simulate-market`: one global model, qianmo and an oracle in a market of advertisers whose truth is known. */

import { simulateMarket } from '../../../library/index.js';
import { callOptionsOf } from '../../command/command-context.js';
import { dispatchOptions, format } from '../../command/shared-options.js';
import { firstOf, flagOption, verb } from '../../command/verb.js';
import { printDocument } from '../../command/print-document.js';

export const simulateMarketVerb = verb({
  name: 'simulate-market',
  description: 'let qianmo and one global model serve a synthetic market of advertisers',
  argument: { name: '<market.yaml>', description: 'the market config' },
  options: {
    ...dispatchOptions,
    fresh: flagOption('--fresh', 'simulate the seeds again that are done'),
    format,
  },
  takesPlugins: true,
  help: `
Each seed is a world with a log, two trained models and a market. Seeds that are done are kept: a market that
was stopped goes on with the next one. market.json and market.html are written to the output of the config.
The section exploration of the config takes every policy of a ranking server, such as
{ mode: active, policy: lin-ucb, weights: { columns: [category, slot] } }, which learns from columns of the log.

Example:
  qianmo simulate-market infra/examples/market.yaml`,
  run: async (operands, { format, ...choice }, context) => {
    const call = callOptionsOf(context);
    const report = await simulateMarket({ config: firstOf(operands), ...choice }, call);
    const { marketDocument } = await import('../../../../coordinator/reports/market-document.js');
    printDocument(marketDocument(report), format, context);
  },
});
