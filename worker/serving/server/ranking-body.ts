/**
 * The body of a request, in either of two forms, parsed once and strictly:
 *
 *   {"context": {...}, "candidates": [{"adgroup": "a", "features": {...}, "bid": 1.5}, ...]}
 *   {"context": {...}, "columns": {"adgroup": ["a", ...], "bid": [1.5, ...], "features": {"city": [...]}}}
 */

import { z } from 'zod';
import { SLOTS_MAX } from '../../../shared/exploration/decision-record.js';
import { BundleDigestSchema } from '../../../shared/bundle/bundle-manifest.js';
import type { RawRow } from '../../../shared/features/values/raw-row.js';
import type { BundleWish } from '../bundle-choice.js';
import {
  columnOfTexts,
  type CandidateColumn,
  type HashesColumn,
  type TextsColumn,
} from '../columns/candidate-column.js';
import { jsonOf, parsedBy } from './json-body.js';
import { RefusedRequest } from './refused-request.js';
import { CANDIDATES_MAX, COLUMNS_MAX, LIST_LENGTH_MAX, TEXT_LENGTH_MAX } from './server-limits.js';

/** Joins the columns of an adgroup's key. */
export const KEY_SEPARATOR = '\u001f';
/** Of bids, pacings and the reserve. */
export const BID_MAX = 1e12;

/** Lists that an answer may have, in their order there; `/v1/score` has no `order` and no `values`. */
export const ANSWER_FIELDS = [
  'order',
  'values',
  'scores',
  'probabilities',
  'expected',
  'blocks',
  'segments',
  'evidence',
] as const;

export type AnswerField = (typeof ANSWER_FIELDS)[number];

/** What all forms come to. Columns and lists have an element for each candidate. */
export interface RankingBody extends BundleWish {
  readonly context: RawRow;
  readonly candidateCount: number;
  /** Keys of the candidates' adgroups, or their hashes. */
  readonly adgroups: TextsColumn | HashesColumn;
  /** The keys; null where there are hashes in their place. */
  readonly keyTexts: () => readonly string[] | null;
  /** Columns that a candidate has, at least one of them. */
  readonly features: ReadonlyMap<string, CandidateColumn>;
  /** Null where all are 1. */
  readonly bids: ArrayLike<number> | null;
  readonly pacings: ArrayLike<number> | null;
  readonly squash: number;
  readonly reserve: number;
  readonly seed: number | null;
  /** The lists that are asked for; null asks for all. */
  readonly fields: readonly AnswerField[] | null;
  /** Places that are shown, which exploration decides on; null where the request does not say. */
  readonly slots: number | null;
  /** Whether the answer says what each feature adds to scores. */
  readonly explain: boolean;
}

const VALUE = `expected a text of at most ${TEXT_LENGTH_MAX} characters, a number, true, false, null or a list of at most ${LIST_LENGTH_MAX} of them`;

function isPlain(value: unknown): boolean {
  if (typeof value === 'string') return value.length <= TEXT_LENGTH_MAX;
  return value === null || typeof value === 'number' || typeof value === 'boolean';
}

function isValue(value: unknown): boolean {
  if (!Array.isArray(value)) return isPlain(value);
  return value.length <= LIST_LENGTH_MAX && value.every(isPlain);
}

/** Columns by name, each judged. One check for each column is cheaper than a schema for each value. */
function columnsOf<Column>(
  isColumn: (value: unknown) => boolean,
  expected: string,
): z.ZodType<Readonly<Record<string, Column>>> {
  return z.custom<Readonly<Record<string, Column>>>().superRefine((columns: unknown, context) => {
    if (typeof columns !== 'object' || columns === null || Array.isArray(columns)) {
      context.addIssue({ code: 'custom', message: 'expected columns by name' });
      return;
    }
    const entries = Object.entries(columns);
    if (entries.length > COLUMNS_MAX)
      context.addIssue({ code: 'custom', message: `expected at most ${COLUMNS_MAX} columns` });
    const wrong = entries.find(([, column]) => !isColumn(column));
    if (wrong !== undefined)
      context.addIssue({ code: 'custom', path: [wrong[0]], message: expected });
  });
}

/** The columns of a row by name. */
export const valuesByColumn = columnsOf<unknown>(isValue, VALUE);

/** Whether a value is a context, as `commonFields` has it. */
export function isContext(value: unknown): value is RawRow {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  let count = 0;
  for (const name in value) {
    count += 1;
    if (count > COLUMNS_MAX || !isValue((value as RawRow)[name])) return false;
  }
  return true;
}

/** Whether a value is a seed, as `commonFields` has it. */
export function isSeed(value: unknown): value is number {
  return seedSchema.safeParse(value).success;
}

/** Whether a value is a column of candidates. */
export function isList(list: unknown): list is readonly unknown[] {
  return Array.isArray(list) && list.length <= CANDIDATES_MAX && list.every(isValue);
}

const listsSchema = columnsOf<readonly unknown[]>(isList, `${VALUE}, for each candidate`);

const keyPart = z.union([
  z.string().max(TEXT_LENGTH_MAX),
  z.int().transform((number) => String(number)),
]);
/** The key of an adgroup, its columns joined. */
export const adgroupKeySchema = z.union(
  [
    keyPart,
    z
      .array(keyPart)
      .min(1)
      .max(16)
      .transform((parts) => parts.join(KEY_SEPARATOR)),
  ],
  {
    error:
      'expected the key of an adgroup: a text, a whole number, or a list of the columns of the key',
  },
);
const bid = z.number().nonnegative().max(BID_MAX);
const pacing = z.number().nonnegative().max(BID_MAX);

const seedSchema = z.int().min(0).max(0xffffffff);

/** Fields that every form has. */
export const commonFields = {
  context: valuesByColumn.default({}),
  /** Exponent of the probability in the value of a candidate. */
  squash: z.number().nonnegative().max(10).default(1),
  /** Candidates of less value are not ranked. */
  reserve: z.number().nonnegative().max(BID_MAX).default(0),
  /** Breaks ties. */
  seed: seedSchema.optional(),
  fields: z.array(z.enum(ANSWER_FIELDS)).max(ANSWER_FIELDS.length).optional(),
  slots: z.int().min(1).max(SLOTS_MAX).optional(),
  bundle: BundleDigestSchema.optional(),
  /** Requests of one key are answered by one bundle while there is a canary. */
  requestKey: z.string().min(1).max(TEXT_LENGTH_MAX).optional(),
  explain: z.boolean().default(false),
};

const ObjectsSchema = z.strictObject({
  ...commonFields,
  candidates: z
    .array(
      z.strictObject({
        adgroup: adgroupKeySchema,
        features: valuesByColumn.default({}),
        bid: bid.default(1),
        pacing: pacing.default(1),
      }),
    )
    .max(CANDIDATES_MAX),
});

const ColumnsSchema = z.strictObject({
  ...commonFields,
  columns: z.strictObject({
    adgroup: z.array(adgroupKeySchema).max(CANDIDATES_MAX),
    features: listsSchema.default({}),
    bid: z.array(bid).max(CANDIDATES_MAX).optional(),
    pacing: z.array(pacing).max(CANDIDATES_MAX).optional(),
  }),
});

/** Both forms of JSON. */
export const RankingRequestSchema = z.union([ObjectsSchema, ColumnsSchema]);

/** @throws RefusedRequest if the bytes are not a body in one of the forms. */
export function parseRankingBody(bytes: Uint8Array): RankingBody {
  const content = jsonOf(bytes);
  if (typeof content !== 'object' || content === null || Array.isArray(content))
    throw new RefusedRequest({ reason: 'wrong-value', what: 'the body is not an object' });
  return 'columns' in content ? ofColumns(content) : ofObjects(content);
}

interface CommonFields extends Pick<RankingBody, 'context' | 'squash' | 'reserve' | 'explain'> {
  readonly seed?: number | undefined;
  readonly fields?: readonly AnswerField[] | undefined;
  readonly slots?: number | undefined;
  readonly bundle?: string | undefined;
  readonly requestKey?: string | undefined;
}

/** Fields that a body has beside its candidates. */
export type CommonOfBody = Pick<RankingBody, keyof CommonFields>;

/** Those fields as a body has them. */
export function commonOf(fields: CommonFields): CommonOfBody {
  const { context, squash, reserve, explain } = fields;
  const { seed = null, bundle = null, slots = null, requestKey = null } = fields;
  return {
    ...{ context, squash, reserve, explain, seed, bundle, slots, requestKey },
    fields: fields.fields ?? null,
  };
}

/** A body of common fields that are shared, with a context and a seed of its own. Field by field, which is faster. */
export function bodyOf(
  { squash, reserve, explain, bundle, slots, requestKey, fields }: CommonOfBody,
  { context, seed }: Pick<RankingBody, 'context' | 'seed'>,
  candidates: Omit<RankingBody, keyof CommonFields>,
): RankingBody {
  const { candidateCount, adgroups, keyTexts, features, bids, pacings } = candidates;
  // prettier-ignore
  return {
    context, seed, squash, reserve, explain, bundle, slots, requestKey, fields,
    candidateCount, adgroups, keyTexts, features, bids, pacings,
  };
}

function ofKeys(
  keys: readonly string[],
): Pick<RankingBody, 'candidateCount' | 'adgroups' | 'keyTexts'> {
  return {
    candidateCount: keys.length,
    adgroups: columnOfTexts(keys),
    keyTexts: () => keys,
  };
}

function ofObjects(content: unknown): RankingBody {
  const { candidates, ...common } = parsedBy(ObjectsSchema, content);
  const columns = new Map<string, unknown[]>();
  for (const [candidate, { features }] of candidates.entries())
    for (const [name, value] of Object.entries(features)) {
      let column = columns.get(name);
      if (column === undefined) {
        column = new Array<unknown>(candidates.length).fill(undefined);
        columns.set(name, column);
      }
      column[candidate] = value;
    }
  return {
    ...commonOf(common),
    ...ofKeys(candidates.map((each) => each.adgroup)),
    features: new Map([...columns].map(([name, values]) => [name, { form: 'values', values }])),
    bids: candidates.map((each) => each.bid),
    pacings: candidates.map((each) => each.pacing),
  };
}

function ofColumns(content: unknown): RankingBody {
  const { columns, ...common } = parsedBy(ColumnsSchema, content);
  const { adgroup: keys, features, bid: bids, pacing: pacings } = columns;
  const lists = Object.entries(features);
  demandSameLengths(keys.length, [
    ...lists.map(([name, list]) => [`features.${name}`, list.length] as const),
    ...[['bid', bids?.length] as const, ['pacing', pacings?.length] as const],
  ]);
  return {
    ...commonOf(common),
    ...ofKeys(keys),
    features: new Map(lists.map(([name, values]) => [name, { form: 'values', values }])),
    ...{ bids: bids ?? null, pacings: pacings ?? null },
  };
}

/**
 * @param lengths of columns by name; undefined for one that is not there.
 * @throws RefusedRequest if one has another length.
 */
function demandSameLengths(
  candidateCount: number,
  lengths: readonly (readonly [name: string, length: number | undefined])[],
): void {
  const uneven = lengths.find(([, length]) => length !== undefined && length !== candidateCount);
  if (uneven === undefined) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the columns of the candidates have different lengths',
    where: `columns.${uneven[0]}`,
    expected: `${candidateCount} values, as many as adgroups`,
    found: `${uneven[1]} values`,
  });
}
