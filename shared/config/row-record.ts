/**
 * Lines of a row log, which a ranking server writes: one for each ranking with what it showed, and one for each request of
 * feedback. Values lie in columns by name, with an element for each shown place or event, because names would be most of a line.
 * The first line of a file has the settings under which its rankings were decided. Training, `ope` and replay read them.
 */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import {
  CANDIDATES_MAX,
  DecisionSchema,
  NAME_LENGTH_MAX,
  RankedCandidateSchema,
  SLOTS_MAX,
  type Decision,
} from './decision-record.js';
import { ExplorationConfigSchema, type ExplorationConfig } from './exploration-config.js';

/** Names of the objects of a row log: the time at which the file was begun, the process that wrote it, and a number. */
export const ROW_FILE_KEY = /^rows-\d{15}-[0-9a-f]{16}-\d{6}\.ndjson\.gz$/;
/** The beginning of all these names. */
export const ROW_FILE_PREFIX = 'rows-';

/** A place of a slate as it was shown. */
export interface ShownPlace {
  readonly adgroup: string;
  /** The segment whose label was predicted; null where tasks have none. */
  readonly segment: string | null;
  readonly bid: number;
  /** The calibrated probability; null for a candidate that predicts a value. */
  readonly probability: number | null;
  readonly propensity: number;
  readonly isExploration: boolean;
  /** Present, and true, if the block that scored it had adapted in the server: no bundle has it. */
  readonly isLive?: true;
}

/** Feedback on a shown place: that it was rendered, or an outcome. */
export interface FeedbackRecord {
  readonly kind: 'feedback';
  readonly decision: string;
  /** The place of the slate, the first being 1. */
  readonly slot: number;
  /** Null for an impression. */
  readonly reward: number | null;
  /** The value of the outcome, where tasks predict values; null if it was not sent. */
  readonly value: number | null;
  readonly epochMs: number;
}

/** A ranking whose slate no policy decided holds nothing that could be replayed or judged. */
interface PlainRanking {
  readonly kind: 'plain';
  readonly epochMs: number;
}

export type RowRecord = Decision | FeedbackRecord | PlainRanking;

const name = z.string().min(1).max(NAME_LENGTH_MAX);
const columns = z.record(z.string(), z.array(z.unknown()).max(CANDIDATES_MAX));
const epochMs = z.number().nonnegative();
/** A value for each candidate, one for all, or doubles in base64, little-endian: a line has thousands of digits otherwise. */
const compactColumns = z
  .object({ adgroup: z.array(z.unknown()).max(CANDIDATES_MAX) })
  .catchall(
    z.union([
      z.array(z.unknown()).max(CANDIDATES_MAX),
      z.strictObject({ float64: z.base64() }),
      z.union([z.string(), z.number(), z.null()]),
    ]),
  );

export const LineSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('settings'),
    /** The mode is `off` if the server has no policy. */
    settings: ExplorationConfigSchema,
    /** The age at which a file is delivered. */
    deliverySeconds: z.number().positive(),
  }),
  z.strictObject({
    ...{ kind: z.literal('ranking'), id: name, epochMs, bundle: name },
    context: z.record(z.string(), z.unknown()),
    shown: columns,
    /** Raw values of the shown candidates. A column that the context has, too, is whole here. */
    features: columns,
    /** The input of the policy; null where none decided. */
    decision: z
      .strictObject({
        seed: z.int().nonnegative(),
        slots: z.int().min(1).max(SLOTS_MAX),
        rounds: z.int().nonnegative(),
        candidates: compactColumns,
        /** The slate that an apprentice decided and did not show; null if it was shown. */
        decided: columns.nullable(),
      })
      .nullable(),
  }),
  z.strictObject({
    kind: z.literal('feedback'),
    decision: z.array(name),
    slot: z.array(z.int().min(1).max(SLOTS_MAX)),
    reward: z.array(z.number().min(0).max(1).nullable()),
    value: z.array(z.number().nullable()),
    epochMs: z.array(epochMs),
  }),
]);

function columnsOf<Row extends object, Name extends keyof Row & string>(
  rows: readonly Row[],
  names: readonly Name[],
): Record<string, Row[Name][]> {
  return Object.fromEntries(names.map((each) => [each, rows.map((row) => row[each])]));
}

function rowsIn(read: z.output<typeof columns>): Record<string, unknown>[] {
  const entries = Object.entries(read);
  const count = Math.max(0, ...entries.map(([, values]) => values.length));
  return Array.from({ length: count }, (_, place) =>
    Object.fromEntries(entries.map(([each, values]) => [each, values[place]])),
  );
}

function compactOf({ adgroup, ...others }: Record<string, readonly unknown[]>): object {
  const compact = Object.entries(others).map(([each, values]): [string, unknown] => {
    if (values.every((value) => value === values[0])) return [each, values[0]];
    const doubles = values.filter((value) => typeof value === 'number');
    if (doubles.length < values.length || doubles.every(Number.isInteger)) return [each, values];
    const bytes = Buffer.from(new Float64Array(doubles).buffer);
    return [each, { float64: bytes.toString('base64') }];
  });
  return { adgroup, ...Object.fromEntries(compact) };
}

/** The columns that `compactOf` was given. */
function wholeColumnsIn(read: z.output<typeof compactColumns>): Record<string, unknown[]> {
  const whole = Object.entries(read).map(([each, values]): [string, unknown[]] => {
    if (Array.isArray(values)) return [each, values];
    if (typeof values !== 'object' || values === null)
      return [each, read.adgroup.map(() => values)];
    const bytes = Uint8Array.from(Buffer.from(values.float64, 'base64'));
    return [each, Array.from(new Float64Array(bytes.buffer, 0, bytes.length >> 3))];
  });
  return Object.fromEntries(whole);
}

const DECIDED = ['adgroup', 'isExploration', 'propensity'] as const;
const SHOWN = [...DECIDED, 'segment', 'bid', 'probability'] as const;
const CANDIDATE = RankedCandidateSchema.keyof().options;
const FEEDBACK = ['decision', 'slot', 'reward', 'value', 'epochMs'] as const;

export function settingsLine(settings: ExplorationConfig, deliverySeconds: number): string {
  return lineOf({ kind: 'settings', settings, deliverySeconds });
}

interface LoggedRanking {
  readonly id: string;
  readonly epochMs: number;
  readonly bundle: string;
  readonly context: Readonly<Record<string, unknown>>;
  readonly shown: readonly ShownPlace[];
  /** By column, a value for each shown place. */
  readonly features: Readonly<Record<string, readonly unknown[]>>;
  readonly decision: Decision | null;
}

export function rankingLine({ shown, decision, ...ranking }: LoggedRanking): string {
  const { seed, slots, rounds, candidates } = decision?.input ?? {};
  return lineOf({
    ...{ kind: 'ranking', ...ranking },
    shown: {
      ...columnsOf(shown, SHOWN),
      ...(shown.some(({ isLive }) => isLive)
        ? { isLive: shown.map(({ isLive = false }) => isLive) }
        : {}),
    },
    decision:
      decision === null
        ? null
        : {
            ...{ seed, slots, rounds },
            candidates: compactOf(columnsOf(candidates ?? [], CANDIDATE)),
            decided: decision.isShown ? null : columnsOf(decision.decided, DECIDED),
          },
  });
}

export function feedbackLine(events: readonly Omit<FeedbackRecord, 'kind'>[]): string {
  return lineOf({ kind: 'feedback', ...columnsOf(events, FEEDBACK) });
}

function lineOf(content: object): string {
  return `${JSON.stringify(content)}\n`;
}

/**
 * The records in lines of one file. A last line without an end, as of a file that is being written, is no record.
 *
 * @throws QianmoError `data` for a line that no server writes.
 */
export function* rowRecordsIn(text: string, file: string): Generator<RowRecord> {
  let settings: ExplorationConfig | null = null;
  for (const { read, where } of linesIn(text, file))
    try {
      if (read.kind === 'settings') settings = read.settings;
      else if (read.kind === 'feedback') {
        const { kind, ...events } = read;
        for (const event of rowsIn(events)) yield { kind, ...FeedbackSchema.parse(event) };
      } else if (read.decision === null) yield { kind: 'plain', epochMs: read.epochMs };
      else yield decisionIn(read, read.decision, settings);
    } catch (cause) {
      throw wrongLine(where, cause);
    }
}

const ShownSchema = z.looseObject({
  adgroup: z.string(),
  probability: z.number().nullable(),
  isLive: z.boolean().optional(),
});

/** A ranking with the raw values that its shown places were scored by. */
export interface ShownRanking extends Pick<LoggedRanking, 'id' | 'bundle' | 'context'> {
  readonly shown: readonly (z.output<typeof ShownSchema> & {
    readonly features: Readonly<Record<string, unknown>>;
  })[];
}

/** @throws as `rowRecordsIn` does. */
export function* shownRankingsIn(text: string, file: string): Generator<ShownRanking> {
  for (const { read, where } of linesIn(text, file)) {
    if (read.kind !== 'ranking') continue;
    const { id, bundle, context, features } = read;
    const values = rowsIn(features);
    // A column that the features have is whole there.
    const ofContext = Object.entries(context).filter(([column]) => !(column in features));
    try {
      const shown = rowsIn(read.shown).map((place, slot) => ({
        ...ShownSchema.parse(place),
        features: values[slot] ?? {},
      }));
      yield { id, bundle, context: Object.fromEntries(ofContext), shown };
    } catch (cause) {
      throw wrongLine(where, cause);
    }
  }
}

function* linesIn(
  text: string,
  file: string,
): Generator<{ readonly read: z.output<typeof LineSchema>; readonly where: string }> {
  for (const [place, line] of text.split('\n').slice(0, -1).entries()) {
    const where = `${file}:${place + 1}`;
    let read: z.output<typeof LineSchema>;
    try {
      read = LineSchema.parse(JSON.parse(line));
    } catch (cause) {
      throw wrongLine(where, cause);
    }
    yield { read, where };
  }
}

const FeedbackSchema = z.strictObject({
  decision: name,
  slot: z.int(),
  reward: z.number().nullable(),
  value: z.number().nullable(),
  epochMs,
});

type RankingLine = Extract<z.output<typeof LineSchema>, { kind: 'ranking' }>;

function decisionIn(
  { id, epochMs: atMs, bundle, shown }: RankingLine,
  { candidates, decided, ...input }: NonNullable<RankingLine['decision']>,
  settings: ExplorationConfig | null,
): Decision {
  return DecisionSchema.parse({
    kind: 'decision',
    input: {
      id,
      epochMs: atMs,
      bundle,
      ...input,
      candidates: rowsIn(wholeColumnsIn(candidates)),
      settings,
    },
    isShown: decided === null,
    decided: rowsIn(
      decided ?? Object.fromEntries(DECIDED.map((each) => [each, shown[each] ?? []])),
    ),
  });
}

function wrongLine(where: string, cause: unknown): QianmoError {
  const found = cause instanceof z.ZodError ? z.prettifyError(cause) : 'text that is not JSON';
  return errorOf('data', 'this line is not of a row log', {
    ...{ where, found, cause },
    expected: 'a ranking or feedback, as a ranking server logs them',
    cure: 'give the row log of a server; infra/docs/exploration.md describes it',
  });
}
