/**
 * Exploration as a server has it. The first places of a ranking may show adgroups with little evidence: a slate is decided
 * by the evidence of its candidates, and the decision is logged before it is shown. What cannot be logged is not explored.
 */

import { z } from 'zod';
import { at, float64At, int32At } from '../../../../shared/base/arrays.js';
import type { Clock } from '../../../../shared/base/clock.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import {
  NAME_LENGTH_MAX,
  type Decision,
  type RankedCandidate,
} from '../../../../shared/config/decision-record.js';
import type { ExplorationConfig } from '../../../../shared/config/exploration-config.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { valuesOf } from '../../candidate-columns.js';
import { decide } from '../../exploration/chooser.js';
import { openDecisionLog, type DecisionLog } from '../../exploration/decision-log.js';
import { decisionIds, EVENT_ID_LENGTH_MAX, EventIds } from '../../exploration/event-ids.js';
import { modelImpressionsOf } from '../../exploration/policies.js';
import { keyLine, type EvidenceLog } from '../../exploration/evidence-ledger.js';
import {
  FEEDBACK_EVENTS_MAX,
  FeedbackTaker,
  type CalibrationSums,
} from '../../exploration/feedback.js';
import {
  answerListsOf,
  droppedList,
  evidenceOf,
  explanationOf,
  jsonAnswerOf,
  logitVariancesOf,
  probabilitiesOf,
  rankingOf,
  type Ranking,
} from '../answer-forms.js';
import {
  JSON_TYPE,
  jsonAnswer,
  keptAnswer,
  type Answer,
  type Endpoint,
  type ReceivedRequest,
} from '../endpoint.js';
import { jsonOf, parseWith, parseRankingBody, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import type { ServedBundle } from '../served-bundle.js';
import { rankEndpoint } from './table.js';

interface ExplorerParts {
  readonly settings: ExplorationConfig;
  readonly evidence: Pick<EvidenceLog, 'state' | 'nowMs'>;
  readonly log: Pick<DecisionLog, 'append'>;
  readonly ids: EventIds;
  readonly nextDecision: (nowMs: number) => string;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** The seed of requests that name none. */
  readonly seed: number;
}

/** A candidate that may be shown. */
interface Showable {
  readonly place: number;
  /** The segment whose label it predicts; null where tasks have none. */
  readonly segment: string | null;
  /** Impressions of which the outcome is not known. */
  readonly openCount: number;
  readonly candidate: RankedCandidate;
}

const MS_PER_SECOND = 1_000;

/** Ranks as a server without exploration does, and then decides on the first places. */
export class Explorer {
  readonly #parts: ExplorerParts;
  #isFailing = false;
  /** Since the start of the process. */
  readonly counts = { decisions: 0, decidedSlots: 0, exploredSlots: 0 };

  constructor(parts: ExplorerParts) {
    this.#parts = parts;
  }

  readonly endpoint: Endpoint = {
    method: 'POST',
    path: rankEndpoint.path,
    mediaTypes: [JSON_TYPE],
    answer: (request) => this.#answer(request),
  };

  async #answer({ bundle: stable, bundleFor, body, server }: ReceivedRequest): Promise<Answer> {
    const parsed = parseRankingBody(body);
    const bundle = bundleFor(parsed);
    const keys = namesOf(parsed);
    const ranking = rankingOf(bundle, parsed);
    const { seed, estimates } = ranking;
    // Copies, because others are ranked while the decision is logged.
    const lists = answerListsOf(bundle, parsed, estimates, ranking).map(({ name, values }) => ({
      ...{ name, values: values.slice() },
    }));
    const byValue = ranking.order.slice();
    const showable = this.#showableOf(bundle, parsed, ranking, keys);
    const slate = await this.#slateOf(bundle.digest, parsed, showable);
    const first = slate?.shown ?? [];
    const isFirst = new Set(first);
    const order = Int32Array.from([...first, ...byValue.filter((place) => !isFirst.has(place))]);
    return keptAnswer(
      jsonAnswerOf({
        ...{ bundle, canary: bundle === stable ? undefined : true, seed },
        dropped: droppedList(parsed),
        lists: lists.map((list) => (list.name === 'order' ? { ...list, values: order } : list)),
        explanation: explanationOf(bundle, parsed, order, server.explainedMax),
        exploration: slate?.reported ?? null,
      }),
    );
  }

  /** The most valuable first, without those that are worth nothing or predict a value, of which evidence says nothing. */
  #showableOf(
    bundle: ServedBundle,
    { context, features }: RankingBody,
    { order, values, estimates }: Ranking,
    keys: readonly string[],
  ): Showable[] {
    const { settings, evidence, clock } = this.#parts;
    const { classColumn } = settings;
    const { state } = evidence;
    state.endWindows(evidence.nowMs());
    const nowMs = clock.epochMs();
    const probabilities = probabilitiesOf(bundle, estimates);
    const learned = evidenceOf(bundle, estimates, 'impressions');
    const variances = logitVariancesOf(bundle, estimates);
    const column = features.get(classColumn);
    const classes = column === undefined ? null : valuesOf(column);
    return Array.from(order).flatMap((place) => {
      const probability = float64At(probabilities, place);
      const value = float64At(values, place) / probability;
      if (!(probability > 0 && value > 0 && value < Infinity)) return [];
      const adgroup = at(keys, place);
      const { impressions, rewards, open, firstMs } = state.evidenceOf(adgroup);
      return {
        ...{ place, openCount: open },
        segment: at(bundle.loaded.manifest.labels, int32At(estimates.labels, place)).segment,
        candidate: {
          ...{ adgroup, value, probability, impressions, rewards },
          learnedImpressions: float64At(learned, place),
          modelImpressions:
            variances === null
              ? null
              : modelImpressionsOf(probability, float64At(variances, place)),
          ageSeconds: firstMs === null ? 0 : Math.max(0, nowMs - firstMs) / MS_PER_SECOND,
          advertiserClass: nameIn(classes === null ? context[classColumn] : at(classes, place)),
        },
      };
    });
  }

  /** Null if nothing may be shown, or the state does not work: then the best ones are shown. */
  async #slateOf(
    bundle: string,
    { slots, seed }: RankingBody,
    showable: readonly Showable[],
  ): Promise<Slate | null> {
    const { log, clock, nextDecision, settings, onEvent } = this.#parts;
    if (showable.length === 0) return null;
    const epochMs = clock.epochMs();
    const decision = decide({
      ...{ id: nextDecision(epochMs), seed: seed ?? this.#parts.seed, epochMs, bundle, settings },
      slots: slots ?? Math.max(1, ...settings.slots),
      rounds: showable.reduce((sum, each) => sum + each.candidate.impressions + each.openCount, 0),
      candidates: showable.map(({ candidate }) => candidate),
    });
    try {
      await log.append([decision]);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      if (!this.#isFailing) onEvent({ kind: 'exploration-state', failure: error.message });
      this.#isFailing = true;
      return null;
    }
    if (this.#isFailing) onEvent({ kind: 'exploration-state', failure: null });
    this.#isFailing = false;
    return this.#shownSlate(bundle, showable, decision);
  }

  #shownSlate(
    bundle: string,
    showable: readonly Showable[],
    { isShown, input, decided }: Decision,
  ): Slate {
    const places = new Map(showable.map(({ candidate }, index) => [candidate.adgroup, index]));
    const slots = decided.map(({ adgroup, isExploration, propensity, propensityError }, index) => {
      // An apprentice shows the best ones.
      const choice = isShown
        ? { isExploration, propensity }
        : { isExploration: false, propensity: 1 };
      const shown = at(showable, isShown ? (places.get(adgroup) ?? NaN) : index);
      const { place, segment, candidate } = shown;
      const event = this.#parts.ids.idOf({
        ...{ decision: input.id, slot: index + 1, adgroup: candidate.adgroup },
        choice: { ...choice, bundle, segment, probability: candidate.probability },
      });
      return { ...choice, place, event, propensityError: isShown ? propensityError : 0 };
    });
    this.counts.decisions += 1;
    this.counts.decidedSlots += slots.length;
    this.counts.exploredSlots += slots.filter(({ isExploration }) => isExploration).length;
    return {
      shown: slots.map(({ place }) => place),
      reported: {
        decision: input.id,
        events: slots.map(({ event }) => event),
        isExploration: slots.map(({ isExploration }) => isExploration),
        propensities: slots.map(({ propensity }) => propensity),
        propensityErrors: slots.map(({ propensityError }) => propensityError),
      },
    };
  }
}

interface Slate {
  /** Places in the request, in the order of the slots that are shown. */
  readonly shown: readonly number[];
  /** The part of the answer. */
  readonly reported: object;
}

function nameIn(value: unknown): string | null {
  const isName = typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX;
  return isName ? value : null;
}

/** @throws RefusedRequest if the log of decisions could not name an adgroup. */
function namesOf({ keyTexts, dropped }: RankingBody): readonly string[] {
  const keys = keyTexts();
  const isWrong = (key: string, place: number): boolean =>
    (key === '' || key.length > NAME_LENGTH_MAX) && !dropped.has(place);
  const wrong = keys?.findIndex(isWrong) ?? 0;
  if (keys !== null && wrong < 0) return keys;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the key of an adgroup cannot be named in the log of decisions',
    where: `candidate ${wrong}`,
    expected: `a text of 1 to ${NAME_LENGTH_MAX} characters, where the server explores`,
    found: keys === null ? 'a hash' : `${at(keys, wrong).length} characters`,
  });
}

interface ExplorationSource {
  readonly settings: ExplorationConfig;
  readonly evidence: EvidenceLog;
  /** The folder of the log of decisions; no other process may use it. */
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
  const explorer = new Explorer({
    ...{ ...parts, settings, nextDecision: decisionIds(nonce), onEvent },
    seed: parseInt(nonce.slice(0, 8), 16),
  });
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
      explorer.endpoint,
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
      const { events } = parseWith(FeedbackBodySchema, jsonOf(body));
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
    answer: ({ parameter: adgroup }) => {
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
