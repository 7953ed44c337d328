/** The lists of an answer, each in one array. */

import { int32At, numberAt, uint8At } from '../../../../shared/base/arrays.js';
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
    const values = new Int32Array(labels);
    for (let candidate = 0; candidate < values.length; candidate += 1)
      if (int32At(blocks, candidate) === UNKNOWN_BLOCK && live?.has(candidate) !== true)
        values[candidate] = -1;
    return [{ name: 'segments', values }];
  },
  evidence: (bundle, estimates) => [
    {
      name: 'evidence.supportRows',
      values: new Int32Array(evidenceOf(bundle, estimates, 'supportRows')),
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
  const isProbability = Uint8Array.from(loaded.manifest.labels, ({ loss }) =>
    Number(loss === 'binary'),
  );
  const probabilities = new Float64Array(expected);
  for (let candidate = 0; candidate < probabilities.length; candidate += 1)
    if (uint8At(isProbability, int32At(labels, candidate)) === 0) probabilities[candidate] = NaN;
  return probabilities;
}

/** What each candidate's block rests on: its support rows, or their sums. */
export function evidenceOf(
  { loaded, choice }: ServedBundle,
  { blocks, live }: Estimates,
  part: Exclude<keyof LiveNotes, 'label' | 'calibration'>,
): Float64Array {
  const { supportRowCounts, ...sums } = loaded.model.blocks.evidence;
  const byBlock = part === 'supportRows' ? supportRowCounts : sums[part];
  const found = new Float64Array(blocks.length);
  if (choice.addon !== null) choice.addon.gather(byBlock, blocks, found);
  else
    for (let candidate = 0; candidate < blocks.length; candidate += 1)
      found[candidate] = numberAt(byBlock, int32At(blocks, candidate));
  for (const [candidate, notes] of live ?? []) found[candidate] = notes[part];
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
  return new RefusedRequest({
    reason: 'wrong-value',
    what: `the answer of this path has no "${field}"`,
    where: 'fields',
    cure: 'ask for it at /v1/rank',
  });
}
