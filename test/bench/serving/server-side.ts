/**
 * The server of the bench, a process of its own: maps the bundle as `qianmo serve` does and serves until it is ended. Another port
 * of it times the bare kernel whenever it is asked.
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { s3OptionsIn } from '../../../coordinator/runs/places.js';
import { systemClock } from '../../../shared/base/clock.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { MappingLoader } from '../../../worker/serving/loading/mapping-loader.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { RankingServer } from '../../../worker/serving/server/ranking-server.js';
import { CANDIDATE_COUNT, CONTEXT_FEATURES, requestsOf, timedCalls } from './kernel-setting.js';

const KERNEL_CALLS = 3_000;

const [, , address = '', digest = ''] = process.argv;
const loader = new MappingLoader({
  ...{ address, addonPath: scoringAddon.path(), cacheFolder: address },
  ...{ cacheByteCountMax: 2 ** 40, s3: s3OptionsIn(process.env) },
});
const current = await loader.load(digest);
const { url } = await RankingServer.listen(
  {
    keeper: { name: 'bench', current, refused: null, swapCount: 0 },
    clock: systemClock,
    onEvent: () => undefined,
    endpoints: rankingEndpoints,
  },
  { host: '127.0.0.1', port: 0, token: null, queuedRequestsMax: 10_000, deadlineMs: 60_000 },
);
const kernelServer = createServer((_request, response) => {
  response.end(JSON.stringify(kernelTimes()));
});
kernelServer.listen(0, '127.0.0.1', () => {
  // Pipes alone have an address without a port.
  const { port } = kernelServer.address() as AddressInfo;
  const ready = { url, kernelUrl: `http://127.0.0.1:${port}` };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
});

function kernelTimes(): ReturnType<typeof timedCalls> {
  const { model } = current.loaded;
  const kernel = new KernelScorer(loadScoringAddon(scoringAddon.path()), model, CONTEXT_FEATURES);
  const requests = requestsOf(200, model.blocks.blockCount, 5);
  const logits = new Float32Array(CANDIDATE_COUNT);
  const times = timedCalls(KERNEL_CALLS, (call) => {
    const request = requests[call % requests.length];
    if (request !== undefined) kernel.score(request, logits);
  });
  kernel.release();
  return times;
}
