/** The lists of an answer, each in one array. */

import { at, int32At, numberAt } from '../../../../shared/base/arrays.js';
import { UNKNOWN_BLOCK } from '../../../../shared/bundle/key-index.js';
import { noSuchField, type Ranking } from '../answers.js';
import type { LiveNotes } from '../../adaptation/live-blocks.js';
import type { Estimates } from '../estimates.js';
import { ANSWER_FIELDS, type AnswerField, type RankingBody } from '../ranking-body.js';
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
  probabilities: ({ loaded }, { expected, labels }) => {
    const isProbability = loaded.manifest.labels.map(({ loss }) => loss === 'binary');
    const values = expected.map((value, candidate) =>
      at(isProbability, int32At(labels, candidate)) ? value : NaN,
    );
    return [{ name: 'probabilities', values }];
  },
  expected: (_bundle, { expected }) => [{ name: 'expected', values: expected }],
  blocks: (_bundle, { blocks }) => [{ name: 'blocks', values: blocks }],
  segments: (_bundle, { blocks, labels, live }) => {
    const values = labels.map((label, candidate) =>
      int32At(blocks, candidate) === UNKNOWN_BLOCK && live?.has(candidate) !== true ? -1 : label,
    );
    return [{ name: 'segments', values }];
  },
  evidence: ({ loaded }, { blocks, live }) => {
    const { supportRowCounts, clicks, impressions } = loaded.model.blocks.evidence;
    const of = (part: EvidencePart, byBlock: ArrayLike<number>): Float64Array =>
      Float64Array.from(
        blocks,
        (block, candidate) => live?.get(candidate)?.[part] ?? numberAt(byBlock, block),
      );
    const supportRows = Int32Array.from(of('supportRows', supportRowCounts));
    return [
      { name: 'evidence.supportRows', values: supportRows },
      { name: 'evidence.clicks', values: of('clicks', clicks) },
      { name: 'evidence.impressions', values: of('impressions', impressions) },
    ];
  },
};

type EvidencePart = Exclude<keyof LiveNotes, 'label' | 'calibration'>;

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
