/**
 * Rankings whose first places are logged with the features that they were scored by, and exploration: these places may show
 * adgroups with little evidence. A slate is decided by the evidence of its candidates, if there is a policy, and is logged before
 * it is shown. What cannot be logged is not explored.
 */

import { z } from 'zod';
import { at, float64At, int32At, numberAt } from '../../../../shared/base/arrays.js';
import type { Clock } from '../../../../shared/base/clock.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import {
  NAME_LENGTH_MAX,
  type Decision,
  type RankedCandidate,
} from '../../../../shared/config/decision-record.js';
import type { ExplorationConfig } from '../../../../shared/config/exploration-config.js';
import {
  rankingLine,
  settingsLine,
  type ShownPlace,
} from '../../../../shared/config/row-record.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { valuesOf } from '../../candidate-columns.js';
import { decide } from '../../exploration/chooser.js';
import { decisionIds, EVENT_ID_LENGTH_MAX, EventIds } from '../../exploration/event-ids.js';
import { modelImpressionsOf } from '../../exploration/policies.js';
import { keyLine, type EvidenceLog } from '../../exploration/evidence-ledger.js';
import { openRowLog, type RowLog, type RowsPlace } from '../../exploration/row-log.js';
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
  inForm,
  logitVariancesOf,
  probabilitiesOf,
  rankingBodyOf,
  rankingOf,
  type Ranking,
} from '../answer-forms.js';
import { Catalog } from '../catalog.js';
import {
  JSON_TYPE,
  jsonAnswer,
  keptAnswer,
  type Answer,
  type Endpoint,
  type ReceivedRequest,
} from '../endpoint.js';
import { KEY_SEPARATOR, type RankingBody } from '../ranking-body.js';
import { jsonOf, parseWith, RefusedRequest, refusalOf } from '../refused-request.js';
import type { Estimates, ServedBundle } from '../served-bundle.js';
import { storedOrRefused } from './adapt.js';
import { rankEndpoint } from './table.js';

interface ExplorerParts {
  readonly settings: ExplorationConfig;
  readonly evidence: Pick<EvidenceLog, 'state' | 'nowMs'>;
  readonly log: Pick<RowLog, 'append'>;
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
  readonly candidate: RankedCandidate;
}

const MS_PER_SECOND = 1_000;
/** The longest that a ranking waits until its line is with the system. */
const PATIENCE_MS = 250;

/** The first places of a ranking. */
interface Slate {
  readonly decision: string;
  /** Places in the request, in the order of the slots. */
  readonly places: readonly number[];
  readonly shown: readonly ShownPlace[];
  /** The line of the log. */
  readonly line: string;
}

/** Ranks as a server without a log does, and then decides on the first places. */
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
    mediaTypes: rankEndpoint.mediaTypes,
    answer: (request) => this.#answer(request),
  };

  async #answer(request: ReceivedRequest): Promise<Answer> {
    const body = rankingBodyOf(request);
    const bundle = request.bundleFor(body);
    const keys = namesOf(body, bundle.catalog);
    const ranking = rankingOf(bundle, body);
    const { seed, estimates } = ranking;
    // Copies, because others are ranked while the slate is logged.
    const lists = answerListsOf(bundle, body, estimates, ranking).map(({ name, values }) => ({
      ...{ name, values: values.slice() },
    }));
    const byValue = ranking.order.slice();
    const slate = this.#slateOf(bundle, body, ranking, keys);
    const isLogged = slate !== null && (await this.#isLogged(slate));
    const first = isLogged ? slate.places : [];
    const isFirst = new Set(first);
    const order = new Int32Array(byValue.length);
    order.set(first);
    order.set(
      byValue.filter((place) => !isFirst.has(place)),
      first.length,
    );
    return keptAnswer(
      inForm(request, {
        ...{ bundle, seed },
        dropped: droppedList(body),
        lists: lists.map((list) => (list.name === 'order' ? { ...list, values: order } : list)),
        explanation: body.explain
          ? explanationOf(bundle, rankingBodyOf(request), order, request.server.explainedMax)
          : undefined,
        exploration: isLogged ? this.#reported(bundle, slate) : null,
      }),
    );
  }

  /** Null if nothing may be shown. */
  #slateOf(
    bundle: ServedBundle,
    body: RankingBody,
    ranking: Ranking,
    keys: readonly string[],
  ): Slate | null {
    const { settings, clock, nextDecision } = this.#parts;
    const epochMs = clock.epochMs();
    const id = nextDecision(epochMs);
    const slots = body.slots ?? Math.max(1, ...settings.slots);
    const probabilities = probabilitiesOf(bundle, ranking.estimates);
    const { places, decision } =
      settings.mode === 'off'
        ? { places: Array.from(ranking.order.subarray(0, slots)), decision: null }
        : this.#decidedOf(bundle, body, { id, epochMs, slots, ranking, keys, probabilities });
    if (places.length === 0) return null;
    const shown = places.map((place, slot): ShownPlace => {
      const probability = float64At(probabilities, place);
      const { isExploration, propensity } =
        decision?.isShown === true ? at(decision.decided, slot) : CERTAIN;
      return {
        ...{ adgroup: at(keys, place), isExploration, propensity },
        segment: segmentOf(bundle, ranking.estimates, place),
        bid: body.bids === null ? 1 : numberAt(body.bids, place),
        probability: Number.isNaN(probability) ? null : probability,
        ...(ranking.estimates.live?.has(place) === true ? { isLive: true } : {}),
      };
    });
    const line = rankingLine({
      ...{ id, epochMs, bundle: bundle.digest, context: body.context, shown, decision },
      features: featuresOf(bundle, body, places, keys),
    });
    return { decision: id, places, shown, line };
  }

  /** No places without candidates that may be shown. */
  #decidedOf(
    bundle: ServedBundle,
    body: RankingBody,
    { id, epochMs, slots, ...ranked }: Deciding,
  ): { readonly places: readonly number[]; readonly decision: Decision | null } {
    const showable = this.#showableOf(bundle, body, ranked);
    if (showable.length === 0) return { places: [], decision: null };
    const { settings } = this.#parts;
    const decision = decide({
      ...{ id, seed: body.seed ?? this.#parts.seed, epochMs, bundle: bundle.digest, settings },
      slots,
      rounds: showable.reduce(
        (sum, { candidate: { impressions, openImpressions } }) =>
          sum + impressions + openImpressions,
        0,
      ),
      candidates: showable.map(({ candidate }) => candidate),
    });
    const { isShown, decided } = decision;
    if (isShown) this.#await(id, decided);
    // An apprentice shows the best ones.
    const shown = decided.map(({ adgroup }, slot) =>
      isShown ? showable.find(({ candidate }) => candidate.adgroup === adgroup) : showable[slot],
    );
    return { decision, places: shown.map((each) => each?.place ?? NaN) };
  }

  /** Impressions that are on their way count for the cut-off. */
  #await(id: string, decided: Decision['decided']): void {
    const { evidence } = this.#parts;
    for (const [index, { adgroup, isExploration }] of decided.entries())
      if (isExploration)
        evidence.state.awaitImpression(`${id}.${index + 1}`, adgroup, evidence.nowMs());
  }

  /**
   * The most valuable first, without those that are worth nothing or predict a value, of which evidence says nothing. An adgroup is
   * there by its most valuable material.
   */
  #showableOf(
    bundle: ServedBundle,
    { context, features }: RankingBody,
    { ranking: { order, values, estimates }, keys, probabilities }: Ranked,
  ): Showable[] {
    const { settings, evidence, clock } = this.#parts;
    const { classColumn } = settings;
    const { state } = evidence;
    state.endWindows(evidence.nowMs());
    const nowMs = clock.epochMs();
    const learned = evidenceOf(bundle, estimates, 'impressions');
    const variances = logitVariancesOf(bundle, estimates);
    const column = features.get(classColumn);
    const classes = column === undefined ? null : valuesOf(column);
    const showable: Showable[] = [];
    const seen = new Set<string>();
    // Written out: for each of hundreds of candidates, spreading an object takes microseconds.
    for (const place of order) {
      const probability = float64At(probabilities, place);
      const value = float64At(values, place) / probability;
      if (!(probability > 0 && value > 0 && value < Infinity)) continue;
      const adgroup = at(keys, place);
      if (seen.has(adgroup)) continue;
      seen.add(adgroup);
      const { impressions, rewards, open, firstMs } = state.evidenceOf(adgroup);
      showable.push({
        place,
        candidate: {
          adgroup,
          value,
          probability,
          impressions,
          rewards,
          openImpressions: open + state.awaitedCountOf(adgroup),
          learnedImpressions: float64At(learned, place),
          modelImpressions:
            variances === null
              ? null
              : modelImpressionsOf(probability, float64At(variances, place)),
          ageSeconds: firstMs === null ? 0 : Math.max(0, nowMs - firstMs) / MS_PER_SECOND,
          advertiserClass: nameIn(classes === null ? context[classColumn] : at(classes, place)),
        },
      });
    }
    return showable;
  }

  /** False if the log does not work: then the best ones are shown. */
  async #isLogged({ line }: Slate): Promise<boolean> {
    const { log, onEvent } = this.#parts;
    try {
      await log.append(line, PATIENCE_MS);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      if (!this.#isFailing) onEvent({ kind: 'exploration-state', failure: error.message });
      this.#isFailing = true;
      return false;
    }
    if (this.#isFailing) onEvent({ kind: 'exploration-state', failure: null });
    this.#isFailing = false;
    return true;
  }

  /** The part of the answer. */
  #reported({ digest }: ServedBundle, { decision, shown }: Slate): object {
    this.counts.decisions += 1;
    this.counts.decidedSlots += shown.length;
    this.counts.exploredSlots += shown.filter(({ isExploration }) => isExploration).length;
    return {
      decision,
      events: shown.map(({ adgroup, segment, probability, propensity, isExploration }, index) =>
        this.#parts.ids.idOf({
          ...{ decision, slot: index + 1, adgroup },
          choice: {
            ...{ bundle: digest, segment, probability: probability ?? NaN },
            ...{ propensity, isExploration },
          },
        }),
      ),
      isExploration: shown.map(({ isExploration }) => isExploration),
      propensities: shown.map(({ propensity }) => propensity),
    };
  }
}

interface Ranked {
  readonly ranking: Ranking;
  readonly keys: readonly string[];
  /** NaN for those that predict a value. */
  readonly probabilities: Float64Array;
}

interface Deciding extends Ranked, Pick<Decision['input'], 'id' | 'epochMs' | 'slots'> {}

const CERTAIN = { isExploration: false, propensity: 1 };

/** The segment whose label is predicted; null where tasks have none. */
function segmentOf(bundle: ServedBundle, { labels }: Estimates, place: number): string | null {
  return at(bundle.loaded.manifest.labels, int32At(labels, place)).segment;
}

/** Values by column as they were scored, with those of the key that the request leaves out. */
function featuresOf(
  { loaded }: ServedBundle,
  { features }: RankingBody,
  places: readonly number[],
  keys: readonly string[],
): Record<string, unknown[]> {
  const ofKeys = loaded.manifest.taskColumns.map((name, part, { length }) => {
    const own = places.map((place) => at(keys, place));
    return [
      name,
      length === 1 ? own : own.map((key) => at(key.split(KEY_SEPARATOR), part)),
    ] as const;
  });
  const columns = new Map<string, unknown[]>(ofKeys);
  for (const [name, column] of features) {
    const values = valuesOf(column, places);
    const ofKey = columns.get(name);
    if (values === null) continue;
    columns.set(
      name,
      values.map((value, slot) => (value === undefined ? ofKey?.[slot] : value)),
    );
  }
  return Object.fromEntries(columns);
}

function nameIn(value: unknown): string | null {
  const isName = typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX;
  return isName ? value : null;
}

/**
 * Leaves out candidates that the log of rows could not name.
 *
 * @throws RefusedRequest if it could not have a feature, of which there are ids alone.
 */
function namesOf(body: RankingBody, catalog: Catalog | null): readonly string[] {
  const { adgroups, features, dropped } = body;
  const ofIds = [...features].find(([, { form }]) => form === 'ids');
  if (ofIds !== undefined)
    throw refusalOf('wrong-value', 'the log of rows takes values, not ids', {
      ...{ where: `the column "${ofIds[0]}"`, cure: 'send texts, or leave it to the catalog' },
    });
  const isHash = adgroups.form === 'hashes';
  const keys = isHash ? (catalog ?? new Catalog()).keysOf(adgroups.words) : body.keyTexts();
  for (const [place, { length }] of (keys ?? []).entries())
    if ((length === 0 || length > NAME_LENGTH_MAX) && !dropped.has(place))
      dropped.set(place, {
        reason: 'wrong-value',
        what: 'the key of an adgroup cannot be named in the log of rows',
        where: `candidate ${place}`,
        expected: `1 to ${NAME_LENGTH_MAX} characters, or the hash of an adgroup in the catalog`,
        found: isHash ? 'a hash of none' : `${length} characters`,
      });
  return keys ?? [];
}

interface ExplorationSource {
  /** Of the mode `off` where nothing is decided. */
  readonly settings: ExplorationConfig;
  readonly evidence: EvidenceLog;
  readonly rows: RowsPlace;
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

/** @throws QianmoError if the log of rows cannot be opened. */
export async function openExploration(source: ExplorationSource): Promise<ServedExploration> {
  const { settings, evidence, rows, clock, nonce, freshKey, onEvent } = source;
  const firstLine = settingsLine(settings, rows.deliverySeconds);
  const log = await openRowLog({ ...rows, clock, onEvent, nonce, firstLine });
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
          value: z.number().nullable().default(null),
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
        value: event.kind === 'impression' ? null : event.value,
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
      return jsonAnswer({
        receipts: await storedOrRefused('the events are', () => taker.take(sent)),
      });
    },
  };
}

/** The evidence of the server about one adgroup. */
function servedAdgroupEndpoint(evidence: EvidenceLog): Endpoint {
  return {
    method: 'GET',
    path: '/v1/exploration/{adgroup}',
    answer: ({ parameter: adgroup }) => {
      const { state } = evidence;
      state.endWindows(evidence.nowMs());
      const { own, all } = state.servedOf(adgroup);
      return jsonAnswer({ adgroup, ...state.evidenceOf(adgroup), served: own, all });
    },
  };
}
