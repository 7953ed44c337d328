/**
 * Candidates in the order of their values, and answers in JSON and in binary (`ranking-body.ts`): lists with an element for
 * each candidate, and explanations of scores.
 */

import {
  at,
  float64At,
  int32At,
  numberAt,
  uint32At,
  uint8At,
} from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { keyHashOf, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import { VARIANCES } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { isSameText, valuesOf } from '../candidate-columns.js';
import { hasExactShares } from '../explanation.js';
import { JSON_TYPE, type Answer, type ReceivedRequest } from './endpoint.js';
import type { Estimates, ServedBundle } from './served-bundle.js';
import {
  alignUp,
  ANSWER_FIELDS,
  BINARY_TYPE,
  BodyScanner,
  LENGTH_BYTE_COUNT,
  parseBinaryBody,
  parseRankingBody,
  type AnswerField,
  type RankingBody,
} from './ranking-body.js';
import { type RefusedRequest, refusalOf } from './refused-request.js';

const SLOTS_PER_CANDIDATE = 4;

let slots = new Int32Array(0);

/**
 * The first candidate whose adgroup came before, and the one that it came with; null if there is none.
 *
 * @param hashes `[count, 2]`
 * @param isSame whether two candidates with one hash have one key.
 */
function firstRepeated(
  hashes: Uint32Array,
  count: number,
  isSame: (first: number, second: number) => boolean,
): readonly [candidate: number, earlier: number] | null {
  let slotCount = 64;
  while (slotCount < SLOTS_PER_CANDIDATE * count) slotCount *= 2;
  if (slots.length < slotCount) slots = new Int32Array(slotCount);
  else slots.fill(0, 0, slotCount);
  for (let candidate = 0; candidate < count; candidate += 1) {
    const low = uint32At(hashes, 2 * candidate);
    const high = uint32At(hashes, 2 * candidate + 1);
    let slot = (low ^ (high >>> 7)) & (slotCount - 1);
    for (; int32At(slots, slot) !== 0; slot = (slot + 1) & (slotCount - 1)) {
      const earlier = int32At(slots, slot) - 1;
      const isEqual =
        uint32At(hashes, 2 * earlier) === low && uint32At(hashes, 2 * earlier + 1) === high;
      if (isEqual && isSame(earlier, candidate)) return [candidate, earlier];
    }
    slots[slot] = candidate + 1;
  }
  return null;
}

/** Candidates that are ranked. Its arrays are those of the next request, too. */
export interface Ranking {
  readonly estimates: Estimates;
  /** Places of candidates in the request, the most valuable first; those below the reserve are left out. */
  readonly order: Int32Array;
  readonly values: Float64Array;
  /** The seed that broke ties; null if there was none. */
  readonly seed: number | null;
}

/** @throws RefusedRequest if a candidate comes twice, which would show it twice. */
export function rankingOf(bundle: ServedBundle, body: RankingBody): Ranking {
  const estimates = bundle.estimates(body);
  requireDifferent(estimates, body);
  const { candidateCount } = body;
  const values = roomFor('values', candidateCount).subarray(0, candidateCount);
  writeValues(bundle, estimates, body, values);
  const places = roomFor('order', candidateCount);
  const found = bundle.addon.order(values, body.reserve, places);
  const order = places.subarray(0, found < 0 ? -1 - found : found);
  const seed = found < 0 ? breakTies(order, values, body, estimates.hashes) : null;
  return { estimates, order, values, seed };
}

const rooms = {
  values: new Float64Array(512),
  order: new Int32Array(512),
};

function roomFor<Name extends keyof typeof rooms>(name: Name, count: number): (typeof rooms)[Name] {
  if (rooms[name].length < count)
    Object.assign(rooms, {
      [name]: name === 'values' ? new Float64Array(count) : new Int32Array(count),
    });
  return rooms[name];
}

/** Candidates that are dropped have no value. */
function writeValues(
  bundle: ServedBundle,
  { expected, candidateCount }: Estimates,
  body: RankingBody,
  values: Float64Array,
): void {
  const { bids, pacings, squash, dropped } = body;
  for (let candidate = 0; candidate < candidateCount; candidate += 1) {
    // A value that was predicted below 0 is worth nothing, and has no power.
    const positive = Math.max(0, float64At(expected, candidate));
    const bid = bids === null ? 1 : (bids[candidate] ?? NaN);
    const pacing = pacings === null ? 1 : (pacings[candidate] ?? NaN);
    const value = pacing * bid * (squash === 1 ? positive : positive ** squash);
    values[candidate] = value;
    if (value < Infinity && !dropped.has(candidate)) continue;
    bundle.drop(body, candidate, {
      ...{ reason: 'not-finite', what: 'the value of a candidate is not finite' },
      ...{ where: `candidate ${candidate}`, found: String(value) },
    });
    values[candidate] = NaN;
  }
}

/** Candidates of one adgroup, or of one crowd, are materials, which their features tell apart. */
function requireDifferent({ hashes, candidateCount }: Estimates, body: RankingBody): void {
  const { adgroups, dropped } = body;
  const repeated = firstRepeated(
    hashes,
    candidateCount,
    (first, second) =>
      !dropped.has(first) &&
      !dropped.has(second) &&
      (adgroups.form === 'hashes' || isSameText(adgroups, first, second)),
  );
  if (repeated === null) return;
  const columns = [...body.features.values()].map((column) =>
    column.form === 'ids' ? Array.from(column.ids) : (valuesOf(column) ?? []),
  );
  const seen = new Map<string, number>();
  for (let candidate = 0; candidate < candidateCount; candidate += 1) {
    if (dropped.has(candidate)) continue;
    const key = [uint32At(hashes, 2 * candidate), uint32At(hashes, 2 * candidate + 1)];
    const text = JSON.stringify([key, ...columns.map((values) => values[candidate])]);
    const earlier = seen.get(text);
    if (earlier !== undefined) throw sameCandidate(candidate, earlier);
    seen.set(text, candidate);
  }
}

function sameCandidate(candidate: number, earlier: number): RefusedRequest {
  return refusalOf('wrong-value', 'a candidate is in the request twice', {
    where: `candidate ${candidate}`,
    expected: 'each adgroup once, or with other features, as of another material',
    found: `the adgroup and the features of candidate ${earlier}`,
    cure: 'send it once, or use /v1/score, which allows it',
  });
}

/** Puts equal values in an order that the seed decides, and returns the seed if it was asked for one. */
function breakTies(
  order: Int32Array,
  values: Float64Array,
  body: Pick<RankingBody, 'context' | 'seed'>,
  hashes: Uint32Array,
): number | null {
  let seed: number | null = null;
  const count = order.length;
  for (let start = 0; start < count;) {
    const value = float64At(values, int32At(order, start));
    let end = start + 1;
    while (end < count && float64At(values, int32At(order, end)) === value) end += 1;
    if (end - start > 1) {
      seed ??= body.seed ?? seedOf(body.context, hashes);
      // By hash before they are shuffled, so that the order in the request decides nothing.
      const tied = Array.from(order.subarray(start, end)).sort(byHash(hashes));
      order.set(randomStream(seed, 'ties', start).shuffle(tied), start);
    }
    start = end;
  }
  return seed;
}

function byHash(hashes: Uint32Array): (first: number, second: number) => number {
  return (first, second) =>
    uint32At(hashes, 2 * first + 1) - uint32At(hashes, 2 * second + 1) ||
    uint32At(hashes, 2 * first) - uint32At(hashes, 2 * second);
}

/** A seed of the request where it names none: the same request is ranked the same again. */
function seedOf(context: RankingBody['context'], hashes: Uint32Array): number {
  const named = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  const words = Array.from({ length: hashes.length / 2 }, (_, candidate) => candidate)
    .sort(byHash(hashes))
    .flatMap((candidate) => [uint32At(hashes, 2 * candidate), uint32At(hashes, 2 * candidate + 1)]);
  return keyHashOf(Buffer.from(JSON.stringify([named, words]))).low;
}

type ListValues = Float64Array | Float32Array | Int32Array;

interface AnswerList {
  /** A field, or one of its parts: `evidence.clicks`. */
  readonly name: string;
  /** NaN stands for null. Segments are places among the manifest's labels, or -1. */
  readonly values: ListValues;
}

type Lists = (bundle: ServedBundle, estimates: Estimates) => readonly AnswerList[];

const EVIDENCE = ['supportRows', 'clicks', 'impressions'] as const;

const LISTS: Readonly<Record<Exclude<AnswerField, 'order' | 'values'>, Lists>> = {
  scores: (_bundle, { scores }) => [{ name: 'scores', values: scores }],
  probabilities: (bundle, estimates) => [
    { name: 'probabilities', values: probabilitiesOf(bundle, estimates) },
  ],
  expected: (_bundle, { expected }) => [{ name: 'expected', values: expected }],
  blocks: (_bundle, { blocks }) => [{ name: 'blocks', values: blocks }],
  segments: (_bundle, { blocks, labels, live }) => {
    const values = new Int32Array(labels);
    for (let candidate = 0; candidate < values.length; candidate += 1)
      if (int32At(blocks, candidate) === UNKNOWN_BLOCK && live?.has(candidate) !== true)
        values[candidate] = -1;
    return [{ name: 'segments', values }];
  },
  evidence: (bundle, estimates) =>
    EVIDENCE.map((part) => {
      const sums = evidenceOf(bundle, estimates, part);
      return {
        name: `evidence.${part}`,
        values: part === 'supportRows' ? new Int32Array(sums) : sums,
      };
    }),
};

/** NaN where the adgroup's label is a value. */
export function probabilitiesOf(
  { loaded }: ServedBundle,
  { expected, labels }: Estimates,
): Float64Array {
  const isProbability = Uint8Array.from(loaded.manifest.labels, ({ loss }) =>
    Number(loss === 'binary'),
  );
  const probabilities = new Float64Array(expected);
  for (let candidate = 0; candidate < probabilities.length; candidate += 1)
    if (uint8At(isProbability, int32At(labels, candidate)) === 0) probabilities[candidate] = NaN;
  return probabilities;
}

/** Variances of the calibrated logits; null where blocks have none. */
export function logitVariancesOf(
  { loaded }: ServedBundle,
  { labels, variances }: Estimates,
): Float64Array | null {
  const { manifest, model } = loaded;
  if (!model.spec.ownVariables.some(({ name }) => name === VARIANCES)) return null;
  return Float64Array.from(
    variances,
    (variance, candidate) =>
      at(manifest.calibrations, int32At(labels, candidate)).slope ** 2 * variance,
  );
}

/** The evidence of each candidate's block: its support rows, or their sums. */
export function evidenceOf(
  { loaded }: ServedBundle,
  { blocks, notes }: Estimates,
  part: (typeof EVIDENCE)[number],
): Float64Array {
  const { supportRowCounts, ...sums } = loaded.model.blocks.evidence;
  const byBlock = part === 'supportRows' ? supportRowCounts : sums[part];
  const found = new Float64Array(blocks.length);
  for (let candidate = 0; candidate < blocks.length; candidate += 1)
    found[candidate] = numberAt(byBlock, int32At(blocks, candidate));
  for (const [candidate, own] of notes ?? []) found[candidate] = own[part];
  return found;
}

/** Candidates whose blocks adapted while serving, where there are any. */
function liveList({ live }: Estimates): AnswerList[] {
  return live === undefined ? [] : [{ name: 'live', values: Int32Array.from(live.keys()) }];
}

/**
 * @param ranking null for an answer without an order.
 * @throws RefusedRequest for a list that the answer does not have.
 */
export function answerListsOf(
  bundle: ServedBundle,
  { fields }: Pick<RankingBody, 'fields'>,
  estimates: Estimates,
  ranking: Ranking | null,
): readonly AnswerList[] {
  const lists: AnswerList[] = fields === null ? liveList(estimates) : [];
  for (const field of ANSWER_FIELDS) {
    if (fields !== null && !fields.includes(field)) continue;
    if (field !== 'order' && field !== 'values') lists.push(...LISTS[field](bundle, estimates));
    else if (ranking !== null) lists.push({ name: field, values: ranking[field] });
    else if (fields !== null) throw noSuchField(field);
  }
  return lists;
}

function noSuchField(field: AnswerField): RefusedRequest {
  return refusalOf('wrong-value', `the answer of this path has no "${field}"`, {
    where: 'fields',
    cure: 'ask for it at /v1/rank',
  });
}

/** `ExplanationSchema` of the client describes it. */
type AnswerExplanation = object;

/**
 * Undefined where the request does not ask for it. Estimates are those of before, in the same arrays.
 *
 * @param places of candidates in the request, of which the first are explained.
 */
export function explanationOf(
  bundle: ServedBundle,
  body: RankingBody,
  places: ArrayLike<number>,
  candidatesMax: number,
): AnswerExplanation | undefined {
  if (!body.explain) return undefined;
  const explained = Array.from({ length: Math.min(places.length, candidatesMax) }, (_, index) =>
    numberAt(places, index),
  );
  const explanations = bundle.explanations(body, explained);
  const estimates = bundle.estimates(body);
  const sums = EVIDENCE.map((part) => [part, evidenceOf(bundle, estimates, part)] as const);
  return {
    isExact: hasExactShares(bundle.loaded.model),
    candidates: explained.map((place, index) => ({
      ...{ candidate: place, block: int32At(estimates.blocks, place) },
      isLive: estimates.live?.has(place) ?? false,
      evidence: Object.fromEntries(sums.map(([part, all]) => [part, float64At(all, place)])),
      ...at(explanations, index),
    })),
  };
}

interface AnswerContent {
  readonly bundle: ServedBundle;
  readonly lists: readonly AnswerList[];
  /** Undefined for an answer without an order. */
  readonly seed: number | null | undefined;
  /** Undefined where the bundle is the one in use. */
  readonly canary: true | undefined;
  /** Candidates that are left out, with their reasons; undefined where none is. */
  readonly dropped: readonly object[] | undefined;
  /** Undefined for an answer without one. */
  readonly explanation?: AnswerExplanation | undefined;
  /** How the order was explored, where the server explores; null if its state did not work. */
  readonly exploration?: object | null;
}

/** Bytes of a number and the comma behind it, at most. */
const NUMBER_BYTE_COUNT_MAX = 33;
const TYPES = new Map<unknown, string>([
  [Float64Array, 'float64'],
  [Float32Array, 'float32'],
  [Int32Array, 'int32'],
]);

/** The list whose values are places among the names of segments. */
const SEGMENTS = 'segments';

let room = Buffer.alloc(0);

/** An object with a list for each field; `evidence` has one for each of its parts. */
function jsonAnswerOf(answered: AnswerContent): Answer {
  const { bundle, lists, seed, explanation, canary, exploration, dropped } = answered;
  const segments = lists.some(({ name }) => name === SEGMENTS) ? segmentTexts(bundle) : [];
  const longest = segments.reduce(
    (most, text) => Math.max(most, 3 * text.length + 1),
    NUMBER_BYTE_COUNT_MAX,
  );
  // Undefined fields are left out.
  const told = { seed, explanation, canary, exploration, dropped };
  const head = JSON.stringify({ bundle: bundle.digest, ...told });
  let byteCount = 3 * head.length + 8;
  for (const { values } of lists) byteCount += values.length * longest + 64;
  if (room.length < byteCount) room = Buffer.allocUnsafeSlow(byteCount);
  // Without its brace.
  let end = room.write(head) - 1;
  let isInEvidence = false;
  for (const { name, values } of lists) {
    const [field = name, part] = name.split('.');
    if (part !== undefined && !isInEvidence) end += room.write(`,"${field}":{"${part}":[`, end);
    else end += room.write(`,"${part ?? field}":[`, end);
    isInEvidence = part !== undefined;
    end =
      name === SEGMENTS
        ? end + room.write(segmentList(values, segments), end)
        : bundle.addon.writeNumbers(values, room, end);
    room[end] = 0x5d;
    end += 1;
  }
  end += room.write(isInEvidence ? '}}' : '}', end);
  return { mediaType: JSON_TYPE, content: room.subarray(0, end), isPassing: true };
}

/** The name of each segment in JSON, by the place of its label. */
function segmentTexts({ loaded }: ServedBundle): readonly string[] {
  return loaded.manifest.labels.map(({ segment }) => JSON.stringify(segment));
}

function segmentList(labels: ListValues, segments: readonly string[]): string {
  let text = '';
  for (const label of labels) text += `${text === '' ? '' : ','}${segments[label] ?? 'null'}`;
  return text;
}

/** The header names the arrays: `[["order", "int32", 500], ...]`, and the segments that -1 and places stand for. */
function binaryAnswerOf(answered: AnswerContent): Answer {
  const { lists } = answered;
  const header = headerOf(answered);
  let byteCount = LENGTH_BYTE_COUNT + header.length;
  for (const { values } of lists) byteCount = alignUp(byteCount) + values.byteLength;
  if (room.length < byteCount) room = Buffer.allocUnsafeSlow(byteCount);
  room.writeUInt32LE(header.length, 0);
  let end = LENGTH_BYTE_COUNT + header.copy(room, LENGTH_BYTE_COUNT);
  for (const { values } of lists) {
    const start = alignUp(end);
    room.fill(0, end, start);
    room.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
    end = start + values.byteLength;
  }
  return { mediaType: BINARY_TYPE, content: room.subarray(0, end), isPassing: true };
}

/** The last header that tells of its lists alone; the next answers have the same, most often. */
let lastHeader = { shape: '', bytes: Buffer.alloc(0) };

function headerOf(answered: AnswerContent): Buffer {
  const { bundle, lists, seed, ...told } = answered;
  const tellsMore = Object.values(told).some((value) => value !== undefined);
  let shape = `${bundle.digest} ${seed}`;
  for (const { name, values } of lists) shape += ` ${name} ${values.length}`;
  if (!tellsMore && lastHeader.shape === shape) return lastHeader.bytes;
  const hasSegments = lists.some(({ name }) => name === SEGMENTS);
  const header = JSON.stringify({
    ...{ bundle: bundle.digest, seed, ...told },
    lists: lists.map(({ name, values }) => [name, TYPES.get(values.constructor), values.length]),
    ...(hasSegments
      ? { segments: bundle.loaded.manifest.labels.map(({ segment }) => segment) }
      : {}),
  });
  const bytes = Buffer.from(header);
  if (!tellsMore) lastHeader = { shape, bytes };
  return bytes;
}

const DROPPED_SHOWN_MAX = 100;

/** The first candidates that are left out. */
export function droppedList({ dropped }: RankingBody): AnswerContent['dropped'] {
  if (dropped.size === 0) return undefined;
  const sorted = [...dropped].sort(([first], [second]) => first - second);
  return sorted
    .slice(0, DROPPED_SHOWN_MAX)
    .map(([candidate, refusal]) => ({ candidate, ...refusal }));
}

export const RANKING_TYPES: readonly string[] = [JSON_TYPE, BINARY_TYPE];

interface ScoringRequest extends Pick<
  ReceivedRequest,
  'bundle' | 'bundleFor' | 'body' | 'mediaType' | 'headers'
> {
  readonly server: Pick<ReceivedRequest['server'], 'explainedMax'>;
}

let scanner: BodyScanner | null = null;

/** The body, valid until the next is read. @throws RefusedRequest if it has none of the forms. */
export function rankingBodyOf({ body, mediaType, bundle }: ScoringRequest): RankingBody {
  if (mediaType === BINARY_TYPE) return parseBinaryBody(body);
  if (scanner?.addon !== bundle.addon) scanner = new BodyScanner(bundle.addon);
  return scanner.scan(body) ?? parseRankingBody(body);
}

export function rankedAnswer(request: ScoringRequest): Answer {
  return answerOf(request, rankingOf);
}

export function scoredAnswer(request: ScoringRequest): Answer {
  return answerOf(request, null);
}

/** @param rank null for an answer without an order. */
function answerOf(request: ScoringRequest, rank: typeof rankingOf | null): Answer {
  const body = rankingBodyOf(request);
  const bundle = request.bundleFor(body);
  const ranking = rank?.(bundle, body) ?? null;
  const lists = answerListsOf(bundle, body, ranking?.estimates ?? bundle.estimates(body), ranking);
  const places = ranking?.order ?? Array.from(Array(body.candidateCount).keys());
  const explanation = explanationOf(bundle, body, places, request.server.explainedMax);
  return inForm(request, {
    ...{ bundle, lists, seed: ranking === null ? undefined : ranking.seed, explanation },
    dropped: droppedList(body),
  });
}

/** Answers in the form of the request, unless it accepts the other. */
export function inForm(
  { mediaType, headers, bundle }: ScoringRequest,
  answered: Omit<AnswerContent, 'canary'>,
): Answer {
  const canary: true | undefined = answered.bundle === bundle ? undefined : true;
  // Fields that an answer does not have are not in its header.
  const content = { ...answered, canary };
  const { accept = '' } = headers;
  const other = mediaType === BINARY_TYPE ? JSON_TYPE : BINARY_TYPE;
  const isBinary = (mediaType === BINARY_TYPE) !== accept.toLowerCase().startsWith(other);
  return isBinary ? binaryAnswerOf(content) : jsonAnswerOf(content);
}
