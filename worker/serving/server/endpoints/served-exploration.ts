/** Exploration as a server has it: its state in a folder or in Redis, and the endpoints that use it. */

import { join } from 'node:path';
import { at } from '../../../../shared/base/arrays.js';
import type { Clock } from '../../../../shared/base/clock.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { ExplorationConfig } from '../../../../shared/config/exploration-config.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { NAME_LENGTH_MAX } from '../../../../shared/exploration/decision-record.js';
import type { TlsFiles } from '../../../../shared/storage/tls-files.js';
import type { CalibrationSums } from '../../decisions/calibration-counts.js';
import { openDecisionLog } from '../../decisions/decision-writer.js';
import { decisionIds, EventIds } from '../../decisions/event-ids.js';
import { Explorer } from '../../decisions/explorer.js';
import { FeedbackTaker } from '../../decisions/feedback.js';
import { openEvidenceLog } from '../../evidence/evidence-log.js';
import { learningOf } from '../../evidence/learned-weights.js';
import type { EvidenceStore } from '../../evidence/evidence-store.js';
import { openRedisEvidence } from '../../evidence/redis-evidence.js';
import { jsonAnswer, type Endpoint } from '../endpoint.js';
import { RefusedRequest } from '../refused-request.js';
import { exploredRankEndpoint } from './explored-rank.js';
import { feedbackEndpoint } from './feedback.js';

interface ExplorationSource {
  readonly settings: ExplorationConfig;
  /** Of decisions, and of the evidence where it is not in Redis; no other process may use it. */
  readonly folder: string;
  /** Called before each write to the folder's evidence. */
  readonly assertOwned?: () => Promise<void>;
  readonly redis: {
    readonly url: string;
    readonly name: string;
    readonly tls: TlsFiles | null;
  } | null;
  readonly clock: Clock;
  /** 16 hexadecimal digits that no other process has. */
  readonly nonce: string;
  /** For the key of event ids if there is none yet. */
  readonly freshKey: string;
  readonly onEvent: RunEventSink;
}

interface ServedExploration {
  readonly endpoints: readonly Endpoint[];
  readonly counts: () => ExplorationCounts;
  close(): Promise<void>;
}

/** Sums since the start of the process. */
export type ExplorationCounts = Explorer['counts'] & {
  readonly calibration: readonly CalibrationSums[];
};

/** @throws QianmoError if the state cannot be opened. */
export async function openExploration(source: ExplorationSource): Promise<ServedExploration> {
  const { settings, folder, clock, nonce, freshKey, onEvent } = source;
  const evidence = await evidenceOf(source);
  const log = await openDecisionLog({ folder: join(folder, 'decisions'), clock, nonce });
  const ids = new EventIds(await evidence.signingKey(freshKey));
  const parts = { evidence, log, ids, clock };
  const explorer = new Explorer({ ...parts, settings, nextDecision: decisionIds(nonce) });
  const taker = new FeedbackTaker({ ...parts, settings: settings.feedback });
  const report: Endpoint = {
    method: 'GET',
    path: '/v1/exploration',
    answer: async () =>
      jsonAnswer({
        ...explorer.report(),
        feedback: taker.report(),
        calibration: taker.calibration.all(),
        evidence: await evidence.counts(),
      }),
  };
  return {
    endpoints: [
      exploredRankEndpoint(explorer, onEvent, parseInt(nonce.slice(0, 8), 16)),
      feedbackEndpoint(taker),
      report,
      servedAdgroupEndpoint(evidence),
    ],
    counts: () => ({ ...explorer.counts, calibration: taker.calibration.all() }),
    close: async () => {
      await evidence.close();
      await log.close();
    },
  };
}

function evidenceOf({
  settings,
  folder,
  assertOwned,
  redis,
  clock,
}: ExplorationSource): Promise<EvidenceStore> {
  const { feedback } = settings;
  const learning = learningOf(settings);
  return redis === null
    ? openEvidenceLog({
        ...{ path: join(folder, 'evidence.ndjson'), clock, feedback, learning, assertOwned },
      })
    : openRedisEvidence({ ...redis, clock, feedback, learning });
}

/** The evidence of the server about one adgroup. */
function servedAdgroupEndpoint(evidence: Pick<EvidenceStore, 'evidenceOf' | 'servedOf'>): Endpoint {
  return {
    method: 'GET',
    path: '/v1/exploration/{adgroup}',
    answer: async ({ parameters }) => {
      const { adgroup = '' } = parameters;
      if (adgroup.length > NAME_LENGTH_MAX) throw tooLong(adgroup);
      try {
        const found = await evidence.evidenceOf([adgroup]);
        const { impressions, rewards, open, firstMs } = at(found, 0);
        const { own, all } = await evidence.servedOf(adgroup);
        return jsonAnswer({ adgroup, impressions, rewards, open, firstMs, served: own, all });
      } catch (error) {
        if (!(error instanceof QianmoError)) throw error;
        throw new RefusedRequest({
          reason: 'not-durable',
          what: 'the evidence cannot be read',
          found: error.report.what,
          cure: 'ask again later',
        });
      }
    },
  };
}

function tooLong(adgroup: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'wrong-value',
    what: 'no adgroup with evidence has so long a key',
    where: 'the path',
    expected: `at most ${NAME_LENGTH_MAX} characters`,
    found: `${adgroup.length} characters`,
  });
}
