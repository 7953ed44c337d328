/** Exploration as a server has it: what it decides by, its log of decisions, and the endpoints that use both. */

import { z } from 'zod';
import type { Clock } from '../../../../shared/base/clock.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import { NAME_LENGTH_MAX } from '../../../../shared/config/decision-record.js';
import type { ExplorationConfig } from '../../../../shared/config/exploration-config.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { openDecisionLog } from '../../exploration/decision-log.js';
import { decisionIds, EVENT_ID_LENGTH_MAX, EventIds } from '../../exploration/event-ids.js';
import { keyLine } from '../../exploration/evidence-ledger.js';
import { Explorer, type EvidenceLog } from '../../exploration/explorer.js';
import {
  FEEDBACK_EVENTS_MAX,
  FeedbackTaker,
  type CalibrationSums,
} from '../../exploration/feedback.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { jsonOf, parsedBy } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import { exploredRankEndpoint } from './explored-rank.js';

interface ExplorationSource {
  readonly settings: ExplorationConfig;
  readonly evidence: EvidenceLog;
  /** Of the log of decisions; no other process may use it. */
  readonly folder: string;
  readonly clock: Clock;
  /** 16 hexadecimal digits that no other process has. */
  readonly nonce: string;
  /** Signs event ids if the evidence has no key yet. */
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

/** @throws QianmoError if the log of decisions cannot be opened. */
export async function openExploration(source: ExplorationSource): Promise<ServedExploration> {
  const { settings, evidence, folder, clock, nonce, freshKey, onEvent } = source;
  const log = await openDecisionLog({ folder, clock, nonce });
  if (evidence.state.signingKey === '') await evidence.append(keyLine(freshKey));
  const ids = new EventIds(evidence.state.signingKey);
  const parts = { evidence, log, ids, clock };
  const explorer = new Explorer({ ...parts, settings, nextDecision: decisionIds(nonce) });
  const taker = new FeedbackTaker({ ...parts, settings: settings.feedback });
  const report: Endpoint = {
    method: 'GET',
    path: '/v1/exploration',
    answer: () => {
      const { mode, policy, slots } = settings;
      const { decisions, exploredSlots } = explorer.counts;
      const { lateCount, duplicateCount } = evidence.state;
      return jsonAnswer({
        ...{ mode, policy, slots, decisions, exploredSlots },
        ...{ feedback: taker.report(), calibration: taker.calibration() },
        evidence: { lateCount, duplicateCount },
      });
    },
  };
  return {
    endpoints: [
      exploredRankEndpoint(explorer, onEvent, parseInt(nonce.slice(0, 8), 16)),
      feedbackEndpoint(taker),
      report,
      servedAdgroupEndpoint(evidence),
    ],
    counts: () => ({ ...explorer.counts, calibration: taker.calibration() }),
    close: () => log.close(),
  };
}

/** The largest time of a Date. */
const EPOCH_MS_MAX = 8.64e15;

const common = {
  event: z.string().min(1).max(EVENT_ID_LENGTH_MAX),
  epochMs: z.number().nonnegative().max(EPOCH_MS_MAX).nullable().default(null),
};

const FeedbackBodySchema = z.strictObject({
  events: z
    .array(
      z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('impression'), ...common }),
        z.strictObject({
          kind: z.literal('outcome'),
          ...common,
          reward: z.number().min(0).max(1).default(1),
        }),
      ]),
    )
    .max(FEEDBACK_EVENTS_MAX),
});

export function feedbackEndpoint(taker: FeedbackTaker): Endpoint {
  return {
    method: 'POST',
    path: '/v1/feedback',
    mediaTypes: [JSON_TYPE],
    answer: async ({ body }) => {
      const { events } = parsedBy(FeedbackBodySchema, jsonOf(body));
      const sent = events.map((event) => ({
        event: event.event,
        epochMs: event.epochMs,
        reward: event.kind === 'impression' ? null : event.reward,
      }));
      const wrong = taker.wrongTime(sent);
      if (wrong !== null)
        throw new RefusedRequest({
          reason: 'wrong-value',
          what: 'an event cannot have happened then, so none of them is taken',
          where: `events.${wrong.place}.epochMs`,
          expected: wrong.expected,
          found: String(sent[wrong.place]?.epochMs),
          cure: 'send milliseconds, or leave epochMs out where it happened just now',
        });
      try {
        return jsonAnswer({ receipts: await taker.take(sent) });
      } catch (error) {
        if (!(error instanceof QianmoError)) throw error;
        throw new RefusedRequest({
          reason: 'not-durable',
          what: 'the events are not known to be stored',
          found: error.report.what,
          cure: 'send them again: each counts once',
        });
      }
    },
  };
}

/** The evidence of the server about one adgroup. */
function servedAdgroupEndpoint(evidence: EvidenceLog): Endpoint {
  return {
    method: 'GET',
    path: '/v1/exploration/{adgroup}',
    answer: ({ parameters }) => {
      const { adgroup = '' } = parameters;
      if (adgroup.length > NAME_LENGTH_MAX)
        throw new RefusedRequest({
          ...{ reason: 'wrong-value', what: 'no adgroup with evidence has so long a key' },
          ...{ where: 'the path', expected: `at most ${NAME_LENGTH_MAX} characters` },
          found: `${adgroup.length} characters`,
        });
      const { state } = evidence;
      state.endWindows(evidence.nowMs());
      const { own, all } = state.servedOf(adgroup);
      return jsonAnswer({ adgroup, ...state.evidenceOf(adgroup), served: own, all });
    },
  };
}
