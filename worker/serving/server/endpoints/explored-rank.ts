/**
 * `POST /v1/rank` with exploration: the first places may show adgroups with little evidence. The answer is that of a
 * server without exploration, in another order, with what was decided.
 */

import { at } from '../../../../shared/base/arrays.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { RunEventSink } from '../../../../shared/events/run-events.js';
import { NAME_LENGTH_MAX } from '../../../../shared/exploration/decision-record.js';
import type { ExploredSlate, Explorer, RankedPlace } from '../../decisions/explorer.js';
import { rankAnswer } from '../answers.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { parseRankingBody, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';

type Ranked = ReturnType<typeof rankAnswer>;

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
        candidates: places.map((place) => candidateOf(body, ranked, place, settings.classColumn)),
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
    answer: async ({ bundle, body }) => {
      const parsed = parseRankingBody(body);
      demandNames(parsed.keys);
      const ranked = rankAnswer(bundle, parsed);
      const places = ranked.order.filter((place) => mayBeShown(ranked, place));
      const slate = await decided(parsed, ranked, places);
      return jsonAnswer(
        slate === null ? { ...ranked, exploration: null } : shown(ranked, places, slate),
      );
    },
  };
}

/** What is worth nothing is not decided on, nor what predicts a value, of which evidence says nothing. */
function mayBeShown({ values, probabilities }: Ranked, place: number): boolean {
  const [value, probability] = [at(values, place), at(probabilities, place)];
  return probability !== null && probability > 0 && value > 0 && value / probability < Infinity;
}

function candidateOf(
  { keys, context, rowOf }: RankingBody,
  { values, probabilities, evidence }: Ranked,
  place: number,
  classColumn: string,
): RankedPlace {
  const advertiserClass = { ...context, ...rowOf(place) }[classColumn];
  const isName = typeof advertiserClass === 'string' && advertiserClass !== '';
  return {
    adgroup: at(keys, place),
    expectedValue: at(values, place),
    probability: at(probabilities, place) ?? NaN,
    learnedImpressions: at(evidence.impressions, place),
    advertiserClass: isName ? advertiserClass.slice(0, NAME_LENGTH_MAX) : null,
  };
}

function shown(ranked: Ranked, places: readonly number[], slate: ExploredSlate): object {
  const first = slate.shown.map((place) => at(places, place));
  const isFirst = new Set(first);
  const { decision, events, isExploration, propensities, propensityErrors } = slate;
  return {
    ...ranked,
    order: [...first, ...ranked.order.filter((place) => !isFirst.has(place))],
    exploration: { decision, events, isExploration, propensities, propensityErrors },
  };
}

function demandNames(keys: readonly string[]): void {
  const wrong = keys.findIndex((key) => key === '' || key.length > NAME_LENGTH_MAX);
  if (wrong < 0) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the key of an adgroup cannot be named in the log of decisions',
    where: `candidate ${wrong}`,
    expected: `1 to ${NAME_LENGTH_MAX} characters, where the server explores`,
    found: `${at(keys, wrong).length} characters`,
  });
}
