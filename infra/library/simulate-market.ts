/** The function of the library that simulates a market. */

import { checkedRequest, MarketRequestSchema } from '../../coordinator/runs/requests.js';
import type { MarketReport } from '../../coordinator/market/market-report.js';
import type { CallOptions, RunHandle } from '../../coordinator/runs/call/run-handle.js';
import type { MarketRequest } from './request-types.js';
import { start } from './started-call.js';

/**
 * Lets one global model, qianmo with and without exploration, and an oracle serve the same synthetic market, seed by
 * seed. Seeds that are done are kept.
 */
export function simulateMarket(
  request: MarketRequest,
  options: CallOptions = {},
): RunHandle<MarketReport> {
  return start(options, async (context) => {
    const { marketRun } = await import('../../coordinator/runs/market/market-run.js');
    const { marketServing } = await import('./market-serving.js');
    const checked = checkedRequest(MarketRequestSchema, request, 'simulateMarket');
    return marketRun(checked, marketServing(), context);
  });
}
