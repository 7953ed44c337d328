/** Requests for scores in whatever form they come, and their answers in the form that was asked for. */

import { rankingOf } from '../answers.js';
import { JSON_TYPE, type Answer, type ReceivedRequest } from '../endpoint.js';
import { parseRankingBody, type RankingBody } from '../ranking-body.js';
import { answerListsOf, binaryAnswerOf, explanationOf, jsonAnswerOf } from './answer-forms.js';
import { BINARY_TYPE, parseBinaryBody } from './binary-body.js';
import { BodyScanner } from './scanned-body.js';

export const RANKING_TYPES: readonly string[] = [JSON_TYPE, BINARY_TYPE];

interface ScoringRequest extends Pick<
  ReceivedRequest,
  'bundle' | 'bundleFor' | 'body' | 'mediaType' | 'headers'
> {
  readonly server: Pick<ReceivedRequest['server'], 'explainedMax'>;
}

/** For the addon, which a process loads once. */
let scanner: BodyScanner | null = null;

/** The body, valid until the next is read. @throws RefusedRequest if it has none of the forms. */
function rankingBodyOf({ body, mediaType, bundle }: ScoringRequest): RankingBody {
  if (mediaType === BINARY_TYPE) return parseBinaryBody(body);
  const { addon } = bundle.choice;
  if (addon === null) return parseRankingBody(body);
  scanner ??= new BodyScanner(addon);
  return scanner.scanned(body) ?? parseRankingBody(body);
}

export function rankedAnswer(request: ScoringRequest): Answer {
  const body = rankingBodyOf(request);
  const bundle = request.bundleFor(body);
  const ranking = rankingOf(bundle, body);
  const lists = answerListsOf(bundle, body, ranking.estimates, ranking);
  const { explainedMax } = request.server;
  const explanation = explanationOf(bundle, body, ranking.order, explainedMax);
  return inForm(request, { bundle, lists, seed: ranking.seed, explanation });
}

export function scoredAnswer(request: ScoringRequest): Answer {
  const body = rankingBodyOf(request);
  const bundle = request.bundleFor(body);
  const { explainedMax } = request.server;
  const places = Array.from({ length: body.candidateCount }, (_, place) => place);
  const explanation = body.explain ? explanationOf(bundle, body, places, explainedMax) : undefined;
  const lists = answerListsOf(bundle, body, bundle.estimates(body), null);
  return inForm(request, { bundle, lists, seed: undefined, explanation });
}

/** That of the request, unless it accepts the other. */
function inForm(
  { mediaType, headers, bundle }: ScoringRequest,
  answered: Omit<Parameters<typeof jsonAnswerOf>[0], 'canary'>,
): Answer {
  const { lists, seed, explanation } = answered;
  const canary: true | undefined = answered.bundle === bundle ? undefined : true;
  const content = { bundle: answered.bundle, lists, seed, canary, explanation };
  const { accept = '' } = headers;
  const other = mediaType === BINARY_TYPE ? JSON_TYPE : BINARY_TYPE;
  const isBinary = (mediaType === BINARY_TYPE) !== accept.toLowerCase().startsWith(other);
  return isBinary ? binaryAnswerOf(content) : jsonAnswerOf(content);
}
