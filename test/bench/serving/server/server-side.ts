/** The server of the bench, a process of its own: times the bare kernel, then serves until it is ended. */

import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { systemClock } from '../../../../shared/base/clock.js';
import { KernelScorer, loadScoringAddon } from '../../../../worker/serving/kernel-scorer.js';
import { rankingEndpoints } from '../../../../worker/serving/server/endpoints/table.js';
import { RankingServer } from '../../../../worker/serving/server/ranking-server.js';
import { chosenScorer } from '../../../../worker/serving/server/scorer-choice.js';
import { ServedBundle } from '../../../../worker/serving/server/served-bundle.js';
import { timedCalls } from '../kernel-measures.js';
import { CANDIDATE_COUNT, CONTEXT_FEATURES, requestsOf } from '../kernel-setting.js';
import { BUNDLE, syntheticBundle } from './server-setting.js';

const KERNEL_CALLS = 1_000;

const adgroupCount = Number(process.argv[2]);
const loaded = syntheticBundle(adgroupCount);
const current = new ServedBundle({
  ...{ digest: BUNDLE, loaded },
  choice: chosenScorer(scoringAddon.path()),
});
const { url } = await RankingServer.listen(
  {
    keeper: { name: 'bench', current, refused: null, swapCount: 0, arrays: 'read' },
    clock: systemClock,
    onEvent: () => undefined,
    endpoints: rankingEndpoints,
  },
  { host: '127.0.0.1', port: 0, token: null, queuedRequestsMax: 10_000, deadlineMs: 60_000 },
);
process.stdout.write(`${JSON.stringify({ url, kernel: kernelTimes() })}\n`);

function kernelTimes(): ReturnType<typeof timedCalls> {
  const kernel = new KernelScorer(
    loadScoringAddon(scoringAddon.path()),
    loaded.model,
    CONTEXT_FEATURES,
  );
  const requests = requestsOf(200, adgroupCount, 5);
  const logits = new Float32Array(CANDIDATE_COUNT);
  return timedCalls(KERNEL_CALLS, 1, (call) => {
    const request = requests[call % requests.length];
    if (request !== undefined) kernel.score(request, logits);
  });
}
