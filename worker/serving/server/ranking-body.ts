/**
 * The body of a request, in either of two forms, parsed once and strictly:
 *
 *   {"context": {...}, "candidates": [{"adgroup": "a", "features": {...}, "bid": 1.5}, ...]}
 *   {"context": {...}, "columns": {"adgroup": ["a", ...], "bid": [1.5, ...], "features": {"city": [...]}}}
 */

import { z } from 'zod';
import { describeIssues } from '../../../shared/config/config-issues.js';
import type { RawRow } from '../../../shared/features/values/raw-row.js';
import { RefusedRequest } from './refused-request.js';
import { CANDIDATES_MAX, COLUMNS_MAX, LIST_LENGTH_MAX, TEXT_LENGTH_MAX } from './server-limits.js';

/** Joins the columns of an adgroup's key. */
export const KEY_SEPARATOR = '\u001f';
const FAULTS_SHOWN_MAX = 5;
const BID_MAX = 1e12;

/** What both forms come to. Lists have an element for each candidate. */
export interface RankingBody {
  readonly context: RawRow;
  /** Columns that a candidate has, at least one of them. */
  readonly candidateColumns: readonly string[];
  readonly keys: readonly string[];
  readonly bids: readonly number[];
  readonly pacings: readonly number[];
  /** The columns of one candidate. */
  readonly rowOf: (candidate: number) => RawRow;
  readonly squash: number;
  readonly reserve: number;
  readonly seed: number | null;
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

const rowSchema = columnsOf<unknown>(isValue, VALUE);
const listsSchema = columnsOf<readonly unknown[]>(
  (list) => Array.isArray(list) && list.length <= CANDIDATES_MAX && list.every(isValue),
  `${VALUE}, for each candidate`,
);

const keyPart = z.union([
  z.string().max(TEXT_LENGTH_MAX),
  z.int().transform((number) => String(number)),
]);
const adgroup = z.union(
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

const common = {
  context: rowSchema.default({}),
  /** Exponent of the probability in the value of a candidate. */
  squash: z.number().nonnegative().max(10).default(1),
  /** Candidates of less value are not ranked. */
  reserve: z.number().nonnegative().max(BID_MAX).default(0),
  /** Breaks ties. */
  seed: z.int().min(0).max(0xffffffff).optional(),
};

const ObjectsSchema = z.strictObject({
  ...common,
  candidates: z
    .array(
      z.strictObject({
        adgroup,
        features: rowSchema.default({}),
        bid: bid.default(1),
        pacing: pacing.default(1),
      }),
    )
    .max(CANDIDATES_MAX),
});

const ColumnsSchema = z.strictObject({
  ...common,
  columns: z.strictObject({
    adgroup: z.array(adgroup).max(CANDIDATES_MAX),
    features: listsSchema.default({}),
    bid: z.array(bid).max(CANDIDATES_MAX).optional(),
    pacing: z.array(pacing).max(CANDIDATES_MAX).optional(),
  }),
});

/** @throws RefusedRequest if the bytes are not a body in one of the forms. */
export function parseRankingBody(bytes: Uint8Array): RankingBody {
  const content = jsonOf(bytes);
  if (typeof content !== 'object' || content === null || Array.isArray(content))
    throw new RefusedRequest({ reason: 'wrong-value', what: 'the body is not an object' });
  return 'columns' in content ? ofColumns(content) : ofObjects(content);
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new RefusedRequest({
      reason: 'malformed',
      what: 'the body is not JSON in UTF-8',
      found: error instanceof Error ? error.message : undefined,
      cure: 'send the body that a JSON library writes',
    });
  }
}

function parsedBy<Schema extends z.ZodType>(schema: Schema, content: unknown): z.output<Schema> {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const faults = describeIssues(parsed.error.issues.slice(0, FAULTS_SHOWN_MAX), content, schema);
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the body has fields that are wrong, missing or unknown',
    found: faults.slice(0, FAULTS_SHOWN_MAX).join('; '),
    cure: 'correct the fields named above; infra/docs/serving.md lists them',
  });
}

function ofObjects(content: unknown): RankingBody {
  const { context, candidates, squash, reserve, seed } = parsedBy(ObjectsSchema, content);
  const names = new Set<string>();
  for (const { features } of candidates) for (const name of Object.keys(features)) names.add(name);
  return {
    ...{ context, squash, reserve, seed: seed ?? null },
    candidateColumns: [...names],
    keys: candidates.map((each) => each.adgroup),
    bids: candidates.map((each) => each.bid),
    pacings: candidates.map((each) => each.pacing),
    rowOf: (candidate) => candidates[candidate]?.features ?? {},
  };
}

function ofColumns(content: unknown): RankingBody {
  const { context, columns, squash, reserve, seed } = parsedBy(ColumnsSchema, content);
  const { adgroup: keys, features, bid: bids, pacing: pacings } = columns;
  const lists = Object.entries(features);
  const sized: readonly (readonly [string, readonly unknown[] | undefined])[] = [
    ...lists.map(([name, list]) => [`features.${name}`, list] as const),
    ...[['bid', bids] as const, ['pacing', pacings] as const],
  ];
  const uneven = sized.find(([, list]) => list !== undefined && list.length !== keys.length);
  if (uneven !== undefined)
    throw new RefusedRequest({
      reason: 'wrong-value',
      what: 'the columns of the candidates have different lengths',
      where: `columns.${uneven[0]}`,
      expected: `${keys.length} values, as many as adgroups`,
      found: `${uneven[1]?.length} values`,
    });
  const ones = (): number[] => keys.map(() => 1);
  return {
    ...{ context, squash, reserve, seed: seed ?? null },
    candidateColumns: lists.map(([name]) => name),
    ...{ keys, bids: bids ?? ones(), pacings: pacings ?? ones() },
    rowOf: (candidate) => Object.fromEntries(lists.map(([name, list]) => [name, list[candidate]])),
  };
}
