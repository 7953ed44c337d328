/**
 * `POST /v1/rank` with exploration: the first places may show adgroups with little evidence. The answer is that of a
 * server without exploration, in another order, with what was decided.
 */

import { at } from '../../../../shared/base/arrays.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { NAME_LENGTH_MAX } from '../../../../shared/exploration/decision-record.js';
import type { ExploredSlate, Explorer, RankedPlace } from '../../decisions/explorer.js';
import { valuesOf } from '../../columns/candidate-column.js';
import { rankAnswer, selected } from '../answers.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { explanationOf } from '../forms/answer-explanation.js';
import { parseRankingBody, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';

interface Ranked extends ReturnType<typeof rankAnswer> {
  readonly keys: readonly string[];
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
        bundle: ranked.bundle,
        seed: body.seed ?? seed,
        slotCount: body.slots ?? Math.max(1, ...settings.slots),
        candidates: candidatesOf(body, ranked, places, settings.classColumn),
      });
      if (isFailing) onEvent({ kind: 'exploration-restored' });
      isFailing = false;
      return slate;
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      if (!isFailing) onEvent({ kind: 'exploration-failed', reason: error.message });
      isFailing = true;
      return null;
    }
  };
  return {
    method: 'POST',
    path: '/v1/rank',
    mediaTypes: [JSON_TYPE],
    answer: async ({ bundle, body, server }) => {
      const parsed = parseRankingBody(body);
      const keys = namesOf(parsed);
      const ranked = { ...rankAnswer(bundle, parsed), keys };
      const places = ranked.order.filter((place) => mayBeShown(ranked, place));
      const slate = await decided(parsed, ranked, places);
      const order = slate === null ? ranked.order : orderOf(ranked, places, slate);
      const { keys: _, ...answer } = { ...ranked, order };
      const explanation = explanationOf(bundle, parsed, order, server.explainedMax);
      const content = { ...selected(answer, parsed.fields), exploration: reportOf(slate) };
      return jsonAnswer(explanation === undefined ? content : { ...content, explanation });
    },
  };
}

/** What is worth nothing is not decided on, nor what predicts a value, of which evidence says nothing. */
function mayBeShown({ values, probabilities }: Ranked, place: number): boolean {
  const [value, probability] = [at(values, place), at(probabilities, place)];
  return probability !== null && probability > 0 && value > 0 && value / probability < Infinity;
}

function candidatesOf(
  { context, features }: RankingBody,
  { keys, values, probabilities, evidence }: Ranked,
  places: readonly number[],
  classColumn: string,
): RankedPlace[] {
  const column = features.get(classColumn);
  const classes = column === undefined ? null : valuesOf(column);
  return places.map((place) => ({
    adgroup: at(keys, place),
    expectedValue: at(values, place),
    probability: at(probabilities, place) ?? NaN,
    learnedImpressions: at(evidence.impressions, place),
    advertiserClass: nameIn(classes === null ? context[classColumn] : at(classes, place)),
  }));
}

function nameIn(value: unknown): string | null {
  const isName = typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX;
  return isName ? value : null;
}

function orderOf(ranked: Ranked, places: readonly number[], slate: ExploredSlate): number[] {
  const first = slate.shown.map((place) => at(places, place));
  const isFirst = new Set(first);
  return [...first, ...ranked.order.filter((place) => !isFirst.has(place))];
}

function reportOf(slate: ExploredSlate | null): object | null {
  if (slate === null) return null;
  const { decision, events, isExploration, propensities, propensityErrors } = slate;
  return { decision, events, isExploration, propensities, propensityErrors };
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
