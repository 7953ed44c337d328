/** The lists of an answer, each in one array. */

import { at, int32At, numberAt } from '../../../../shared/base/arrays.js';
import { UNKNOWN_BLOCK } from '../../../../shared/bundle/key-index.js';
import type { Ranking } from '../answers.js';
import type { LiveNotes } from '../../adaptation/live-blocks.js';
import type { Estimates } from '../estimates.js';
import { ANSWER_FIELDS, type AnswerField, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import type { ServedBundle } from '../served-bundle.js';

export type ListValues = Float64Array | Float32Array | Int32Array;

export interface AnswerList {
  /** A field, or one of its parts: `evidence.clicks`. */
  readonly name: string;
  /** NaN stands for null. Segments are places among the manifest's labels, or -1. */
  readonly values: ListValues;
}

type Lists = (bundle: ServedBundle, estimates: Estimates) => readonly AnswerList[];

const LISTS: Readonly<Record<Exclude<AnswerField, 'order' | 'values'>, Lists>> = {
  scores: (_bundle, { scores }) => [{ name: 'scores', values: scores }],
  probabilities: (bundle, estimates) => [
    { name: 'probabilities', values: probabilitiesOf(bundle, estimates) },
  ],
  expected: (_bundle, { expected }) => [{ name: 'expected', values: expected }],
  blocks: (_bundle, { blocks }) => [{ name: 'blocks', values: blocks }],
  segments: (_bundle, { blocks, labels, live }) => {
    const values = labels.map((label, candidate) =>
      int32At(blocks, candidate) === UNKNOWN_BLOCK && live?.has(candidate) !== true ? -1 : label,
    );
    return [{ name: 'segments', values }];
  },
  evidence: (bundle, estimates) => [
    {
      name: 'evidence.supportRows',
      values: Int32Array.from(evidenceOf(bundle, estimates, 'supportRows')),
    },
    { name: 'evidence.clicks', values: evidenceOf(bundle, estimates, 'clicks') },
    { name: 'evidence.impressions', values: evidenceOf(bundle, estimates, 'impressions') },
  ],
};

/** NaN where the adgroup's label is a value. */
export function probabilitiesOf(
  { loaded }: ServedBundle,
  { expected, labels }: Estimates,
): Float64Array {
  const isProbability = loaded.manifest.labels.map(({ loss }) => loss === 'binary');
  return expected.map((value, candidate) =>
    at(isProbability, int32At(labels, candidate)) ? value : NaN,
  );
}

/** What each candidate's block rests on: its support rows, or their sums. */
export function evidenceOf(
  { loaded }: ServedBundle,
  { blocks, live }: Estimates,
  part: Exclude<keyof LiveNotes, 'label' | 'calibration'>,
): Float64Array {
  const { supportRowCounts, ...sums } = loaded.model.blocks.evidence;
  const byBlock = part === 'supportRows' ? supportRowCounts : sums[part];
  return Float64Array.from(
    blocks,
    (block, candidate) => live?.get(candidate)?.[part] ?? numberAt(byBlock, block),
  );
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
  const lists = ANSWER_FIELDS.flatMap((field): readonly AnswerList[] => {
    if (field !== 'order' && field !== 'values')
      return fields === null || fields.includes(field) ? LISTS[field](bundle, estimates) : [];
    if (ranking !== null)
      return fields === null || fields.includes(field)
        ? [{ name: field, values: ranking[field] }]
        : [];
    if (fields?.includes(field) === true) throw noSuchField(field);
    return [];
  });
  return fields === null ? [...liveList(estimates), ...lists] : lists;
}

function noSuchField(field: AnswerField): RefusedRequest {
  return new RefusedRequest({
    reason: 'wrong-value',
    what: `the answer of this path has no "${field}"`,
    where: 'fields',
    cure: 'ask for it at /v1/rank',
  });
}
