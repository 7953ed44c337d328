/** `POST /v1/feedback`: impressions and outcomes by the ids of their events, each counted once. */

import { z } from 'zod';
import { QianmoError } from '../../../../shared/base/errors.js';
import { EVENT_ID_LENGTH_MAX } from '../../decisions/event-ids.js';
import type { FeedbackTaker } from '../../decisions/feedback.js';
import { RECORDED_EVENTS_MAX } from '../../evidence/evidence-store.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { jsonOf, parsedBy } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';

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
    .max(RECORDED_EVENTS_MAX),
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
