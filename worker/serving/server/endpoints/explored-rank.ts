/**
 * `POST /v1/rank` with exploration: the first places may show adgroups with little evidence. The answer is that of a
 * server without exploration, in another order, with what was decided.
 */

import { at, float64At, int32At } from '../../../../shared/base/arrays.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import { NAME_LENGTH_MAX } from '../../../../shared/config/decision-record.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { valuesOf } from '../../candidate-columns.js';
import type { ExploredSlate, Explorer, RankedPlace } from '../../exploration/explorer.js';
import { rankingOf } from '../answers.js';
import { JSON_TYPE, keptAnswer, type Endpoint } from '../endpoint.js';
import {
  answerListsOf,
  evidenceOf,
  explanationOf,
  jsonAnswerOf,
  probabilitiesOf,
  type AnswerList,
} from '../answer-forms.js';
import { rankEndpoint } from './table.js';
import { parseRankingBody, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import type { ServedBundle } from '../served-bundle.js';

/** Kept while others are ranked. */
interface Ranked {
  readonly bundle: ServedBundle;
  readonly keys: readonly string[];
  readonly order: Int32Array;
  readonly values: Float64Array;
  /** NaN where the adgroup's label is a value. */
  readonly probabilities: Float64Array;
  readonly impressions: Float64Array;
  /** Places among the labels of the manifest. */
  readonly labels: Int32Array;
  /** The answer, but for its order. */
  readonly lists: readonly AnswerList[];
  readonly seed: number | null;
}

/** @param seed of requests that name none. */
export function exploredRankEndpoint(
  explorer: Explorer,
  onEvent: RunEventSink,
  seed: number,
): Endpoint {
  let isFailing = false;
  /** Null if the state does not work: then the best ones are shown. */
  const decided = async (
    body: RankingBody,
    ranked: Ranked,
    places: readonly number[],
  ): Promise<ExploredSlate | null> => {
    const { settings } = explorer;
    if (places.length === 0) return null;
    try {
      const slate = await explorer.explored({
        bundle: ranked.bundle.digest,
        seed: body.seed ?? seed,
        slotCount: body.slots ?? Math.max(1, ...settings.slots),
        candidates: candidatesOf(body, ranked, places, settings),
      });
      if (isFailing) onEvent({ kind: 'exploration-state', failure: null });
      isFailing = false;
      return slate;
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      if (!isFailing) onEvent({ kind: 'exploration-state', failure: error.message });
      isFailing = true;
      return null;
    }
  };
  return {
    method: 'POST',
    path: rankEndpoint.path,
    mediaTypes: [JSON_TYPE],
    answer: async ({ bundle: stable, bundleFor, body, server }) => {
      const parsed = parseRankingBody(body);
      const bundle = bundleFor(parsed);
      const ranked = rankedOf(bundle, parsed);
      const places = Array.from(ranked.order).filter((place) => mayBeShown(ranked, place));
      const slate = await decided(parsed, ranked, places);
      const order = slate === null ? ranked.order : orderOf(ranked, places, slate);
      const explanation = explanationOf(bundle, parsed, order, server.explainedMax);
      const lists = ranked.lists.map((list) =>
        list.name === 'order' ? { ...list, values: order } : list,
      );
      // It is sent in a later turn.
      return keptAnswer(
        jsonAnswerOf({
          ...{ bundle, canary: bundle === stable ? undefined : true, lists, seed: ranked.seed },
          ...{ explanation, exploration: slate && withoutPlaces(slate) },
        }),
      );
    },
  };
}

function rankedOf(bundle: ServedBundle, body: RankingBody): Ranked {
  const keys = namesOf(body);
  const ranking = rankingOf(bundle, body);
  const { estimates, seed } = ranking;
  const lists = answerListsOf(bundle, body, estimates, ranking);
  return {
    ...{ bundle, keys, seed },
    order: ranking.order.slice(),
    values: ranking.values.slice(),
    probabilities: probabilitiesOf(bundle, estimates),
    impressions: evidenceOf(bundle, estimates, 'impressions'),
    labels: estimates.labels.slice(),
    lists: lists.map(({ name, values }) => ({ name, values: values.slice() })),
  };
}

/** False for a candidate that is worth nothing, and for one that predicts a value, of which evidence says nothing. */
function mayBeShown({ values, probabilities }: Ranked, place: number): boolean {
  const [value, probability] = [float64At(values, place), float64At(probabilities, place)];
  return probability > 0 && value > 0 && value / probability < Infinity;
}

function candidatesOf(
  { context, features }: RankingBody,
  { bundle, keys, values, probabilities, impressions, labels }: Ranked,
  places: readonly number[],
  { classColumn }: Explorer['settings'],
): RankedPlace[] {
  const column = features.get(classColumn);
  const classes = column === undefined ? null : valuesOf(column);
  return places.map((place) => ({
    adgroup: at(keys, place),
    expectedValue: float64At(values, place),
    probability: float64At(probabilities, place),
    segment: at(bundle.loaded.manifest.labels, int32At(labels, place)).segment,
    learnedImpressions: float64At(impressions, place),
    advertiserClass: nameIn(classes === null ? context[classColumn] : at(classes, place)),
  }));
}

function nameIn(value: unknown): string | null {
  const isName = typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX;
  return isName ? value : null;
}

function orderOf(ranked: Ranked, places: readonly number[], slate: ExploredSlate): Int32Array {
  const first = slate.shown.map((place) => at(places, place));
  const isFirst = new Set(first);
  return Int32Array.from([...first, ...ranked.order.filter((place) => !isFirst.has(place))]);
}

function withoutPlaces({ shown: _, ...reported }: ExploredSlate): object {
  return reported;
}

/** @throws RefusedRequest if the log of decisions could not name an adgroup. */
function namesOf({ keyTexts }: RankingBody): readonly string[] {
  const keys = keyTexts();
  const wrong = keys?.findIndex((key) => key === '' || key.length > NAME_LENGTH_MAX) ?? 0;
  if (keys !== null && wrong < 0) return keys;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the key of an adgroup cannot be named in the log of decisions',
    where: `candidate ${wrong}`,
    expected: `a text of 1 to ${NAME_LENGTH_MAX} characters, where the server explores`,
    found: keys === null ? 'a hash' : `${at(keys, wrong).length} characters`,
  });
}
