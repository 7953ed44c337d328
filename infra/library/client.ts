/**
 * The entry point `qianmo/client`: a typed client of `qianmo serve`. It asks again where that may help, since every request
 * may be sent twice: `rank` and `score` change nothing, a server that explores logs a decision for each, of which feedback
 * names the one that was shown; an event of `feedback` counts once; rows of `adapt` replace those before.
 */

import { z } from 'zod';
import { systemClock, type Clock } from '../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { ServedAdgroupSchema, type ServedAdgroup } from '../../shared/config/decision-record.js';
import { addressBelow } from '../../shared/network/addresses.js';

export { QianmoError } from '../../shared/base/errors.js';

const DEADLINE_MS_MAX = 60_000;
const RETRY_AFTER_SECONDS_MAX = 60;

const OptionsSchema = z.strictObject({
  /** The address of the server, such as `http://127.0.0.1:8080`, or a path of a proxy that leads to it. */
  url: z.url({ protocol: /^https?$/ }),
  token: z.string().min(1).optional(),
  /** For an answer, all attempts and waits together. */
  timeoutMs: z.int().min(1).max(DEADLINE_MS_MAX).default(1_000),
  /** 1 never asks again. */
  attemptsMax: z.int().min(1).max(10).default(3),
});
type RankingClientOptions = z.input<typeof OptionsSchema>;

/** A value of a column, as the logs had it. */
export type ColumnValue =
  string | number | boolean | null | readonly (string | number | boolean | null)[];
/** A list where the key has several columns. */
type AdgroupKey = string | number | readonly (string | number)[];

export interface Candidate {
  readonly adgroup: AdgroupKey;
  readonly features?: Readonly<Record<string, ColumnValue>>;
  readonly bid?: number;
  readonly pacing?: number;
}

/** Columns with an element for each candidate, which make smaller requests. */
interface CandidateColumns {
  readonly adgroup: readonly AdgroupKey[];
  readonly features?: Readonly<Record<string, readonly ColumnValue[]>>;
  readonly bid?: readonly number[];
  readonly pacing?: readonly number[];
}

interface CandidatesRequest<Field> {
  readonly candidates: readonly Candidate[] | CandidateColumns;
  readonly context?: Readonly<Record<string, ColumnValue>>;
  readonly squash?: number;
  readonly reserve?: number;
  readonly seed?: number;
  readonly slots?: number;
  /** Requests of one key are answered by one bundle while there is a canary. */
  readonly requestKey?: string;
  /** Asks what each feature adds to the scores of the first candidates. */
  readonly explain?: boolean;
  /** The lists of the answer that are wanted; all if absent. */
  readonly fields?: readonly Field[];
}

/** JSON has no other numbers: a score beyond them is null. */
const number = z.number().nullable();
const numbers = z.array(number);
const evidence = { supportRows: z.number(), clicks: z.number(), impressions: z.number() };
const counts = z.array(z.number());

const ExplanationSchema = z.object({
  /** True if shares are Shapley values: the model has no terms of more than two parts. */
  isExact: z.boolean(),
  /** The first candidates of the order, or of the request where there is none. */
  candidates: z.array(
    z.object({
      /** The place in the request. */
      candidate: z.int(),
      block: z.int(),
      /** True if the block adapted while serving. */
      isLive: z.boolean(),
      evidence: z.object(evidence),
      /** The sum of the base and all shares. */
      score: number,
      /** The score of block 0 where nothing is known of any feature. */
      base: number,
      /** The part of the adgroup's own block. */
      blockShare: number,
      shares: z.record(z.string(), number),
    }),
  ),
});

const scored = {
  /** The digest of the bundle that all of the answer comes from. */
  bundle: z.string(),
  /** True if the bundle is one that answers a share of requests beside the one in use. */
  canary: z.literal(true).optional(),
  /** The output of the model: a logit, or a standardised value. */
  scores: numbers,
  /** Calibrated; null where the segment predicts a value. */
  probabilities: numbers,
  /** The probability, or the expected value. */
  expected: numbers,
  /** The number of the adgroup's block; 0 for an unknown adgroup. */
  blocks: z.array(z.int()),
  /** The segment whose label the block predicts. */
  segments: z.array(z.string().nullable()),
  evidence: z.object({ supportRows: counts, clicks: counts, impressions: counts }),
  /** Where the request says `explain`. */
  explanation: ExplanationSchema.optional(),
  /** The first candidates that are left out: by their places in the request, with the reasons. */
  dropped: z.array(z.looseObject({ candidate: z.int(), reason: z.string() })).optional(),
};
const ScoreAnswerSchema = z.object(scored);
const RankAnswerSchema = z.object({
  ...scored,
  /** Places in the request, the most valuable candidate first. */
  order: z.array(z.int()),
  /** pacing * bid * expected ^ squash */
  values: numbers,
  /** The seed that broke ties; null if there was none. */
  seed: z.int().nullable(),
  /** The decision, where the server explores; null if nothing was decided. */
  exploration: z.unknown().optional(),
});
const BundleReportSchema = z.looseObject({
  ...{ bundle: z.string(), label: z.string(), taskColumns: z.array(z.string()) },
  scorer: z.object({ name: z.string(), reasonNotKernel: z.string().nullable() }),
  features: z.array(z.looseObject({ name: z.string(), kind: z.string() })),
  requests: z.looseObject({ answered: z.int(), refused: z.record(z.string(), z.int()) }),
});
const DictionarySchema = z.object({ bundle: z.string(), values: z.array(z.string().nullable()) });
const AdaptAnswerSchema = z.object({
  bundle: z.string(),
  /** True if the block is served in place of the bundle's. */
  live: z.boolean(),
  /** True if the block adapted to the rows. */
  adapted: z.boolean().optional(),
  evidence: z.object(evidence).optional(),
  segment: z.string().nullable().optional(),
});
const ReceiptsSchema = z.object({ receipts: z.array(z.string()) });
const ExplorationReportSchema = z.looseObject({ policy: z.string(), decisions: z.int() });
const ProblemSchema = z.object({
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
});

type RankAnswer = z.output<typeof RankAnswerSchema>;
type ScoreAnswer = z.output<typeof ScoreAnswerSchema>;
/** The fields that answers have beside lists. */
type ScoreMark = 'bundle' | 'canary' | 'explanation' | 'dropped';
type RankMark = ScoreMark | 'seed' | 'exploration';
type RankField = Exclude<keyof RankAnswer, RankMark>;
type ScoreField = Exclude<keyof ScoreAnswer, ScoreMark>;
type RankRequest<Field extends RankField = RankField> = CandidatesRequest<Field>;
type ScoreRequest<Field extends ScoreField = ScoreField> = CandidatesRequest<Field>;

/** An impression that was shown, or its outcome, by the id that the answer of `rank` gave it. */
export type FeedbackEvent =
  | { readonly kind: 'impression'; readonly event: string; readonly epochMs?: number | null }
  | {
      readonly kind: 'outcome';
      readonly event: string;
      readonly epochMs?: number | null;
      /** From 0 to 1; 1 if absent. */
      readonly reward?: number;
      /** The value of the outcome, for adgroups that predict values. */
      readonly value?: number | null;
    };

/** Labelled rows of an adgroup. */
export interface AdaptRequest {
  readonly adgroup: AdgroupKey;
  readonly segment?: string | null;
  readonly rows: readonly {
    readonly features: Readonly<Record<string, ColumnValue>>;
    /** Clicks over impressions, or the value. */
    readonly label: number;
    readonly impressions?: number;
  }[];
}

/** Facts of one adgroup for the catalog of a server; those that are absent stay. */
export interface AdgroupDescription {
  readonly adgroup: AdgroupKey;
  readonly state?: 'active' | 'paused' | 'removed';
  readonly segment?: string | null;
  /** By column. */
  readonly attributes?: Readonly<Record<string, ColumnValue>> | null;
}

type AdaptAnswer = z.output<typeof AdaptAnswerSchema>;
type BundleReport = z.output<typeof BundleReportSchema>;
type Dictionary = z.output<typeof DictionarySchema>;
type ExplorationReport = z.output<typeof ExplorationReportSchema>;
export type { ServedAdgroup };

interface RankingCallOptions {
  /** Stops the call, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export class RankingClient {
  readonly #options: z.output<typeof OptionsSchema>;
  readonly #clock: Clock;

  /** @throws QianmoError of kind `usage` if an option is wrong. */
  constructor(options: RankingClientOptions, clock: Clock = systemClock) {
    const parsed = OptionsSchema.safeParse(options);
    if (!parsed.success)
      throw errorOf('usage', 'options of the client are wrong, missing or unknown', {
        found: z.prettifyError(parsed.error),
        cure: 'correct them; infra/docs/serving.md lists them',
      });
    this.#options = parsed.data;
    this.#clock = clock;
  }

  /**
   * Candidates in the order of their value.
   *
   * @throws QianmoError of kind `usage` for a request that the server refuses, `environment` if there is no
   *   answer in time.
   */
  rank<Field extends RankField = RankField>(
    request: RankRequest<Field>,
    options: RankingCallOptions = {},
  ): Promise<Pick<RankAnswer, Field | RankMark>> {
    // The lists of the answer are those of the request, which is what the type says.
    const schema: z.ZodType = RankAnswerSchema.partial().required({ bundle: true, seed: true });
    return this.#post('/v1/rank', request, schema, options) as Promise<
      Pick<RankAnswer, Field | RankMark>
    >;
  }

  /** Scores candidates without ranking them. @throws as `rank` does. */
  score<Field extends ScoreField = ScoreField>(
    request: ScoreRequest<Field>,
    options: RankingCallOptions = {},
  ): Promise<Pick<ScoreAnswer, Field | ScoreMark>> {
    const schema: z.ZodType = ScoreAnswerSchema.partial().required({ bundle: true });
    return this.#post('/v1/score', request, schema, options) as Promise<
      Pick<ScoreAnswer, Field | ScoreMark>
    >;
  }

  /** Reports impressions and outcomes to a server that explores. Returns a receipt for each. @throws as `rank` does. */
  async feedback(
    events: readonly FeedbackEvent[],
    options: RankingCallOptions = {},
  ): Promise<readonly string[]> {
    const { receipts } = await this.#post('/v1/feedback', { events }, ReceiptsSchema, options);
    return receipts;
  }

  /** Adapts an adgroup to labelled rows; its block is served from then on. @throws as `rank` does. */
  adapt(request: AdaptRequest, options: RankingCallOptions = {}): Promise<AdaptAnswer> {
    return this.#post('/v1/adapt', request, AdaptAnswerSchema, options);
  }

  /** Tells the server of an adgroup, so that requests may name it alone, pauses it or removes it. @throws as `rank` does. */
  async adgroup(request: AdgroupDescription, options: RankingCallOptions = {}): Promise<void> {
    await this.#post('/v1/adgroups', request, z.object({ state: z.string() }), options);
  }

  /** Returns the catalog's entry of an adgroup. @throws as `rank` does. */
  describedAdgroup(adgroup: AdgroupKey, options: RankingCallOptions = {}): Promise<object> {
    return this.#get(`/v1/adgroups/${segmentOf(adgroup)}`, z.looseObject({}), options);
  }

  /** The bundle that is served, the columns it reads, and counts of requests. @throws as `rank` does. */
  bundle(options: RankingCallOptions = {}): Promise<BundleReport> {
    return this.#get('/v1/bundle', BundleReportSchema, options);
  }

  /** The values of a feature in the order of their ids, for requests in binary. @throws as `rank` does. */
  dictionary(feature: string, options: RankingCallOptions = {}): Promise<Dictionary> {
    const path = `/v1/dictionaries/${encodeURIComponent(feature)}`;
    return this.#get(path, DictionarySchema, options);
  }

  /** How the server explores, and what became of feedback. @throws as `rank` does. */
  exploration(options: RankingCallOptions = {}): Promise<ExplorationReport> {
    return this.#get('/v1/exploration', ExplorationReportSchema, options);
  }

  /** The evidence of an adgroup, and its share of what was served and explored. @throws as `rank` does. */
  exploredAdgroup(adgroup: AdgroupKey, options: RankingCallOptions = {}): Promise<ServedAdgroup> {
    return this.#get(`/v1/exploration/${segmentOf(adgroup)}`, ServedAdgroupSchema, options);
  }

  #post<Answer>(
    path: string,
    request: object,
    schema: z.ZodType<Answer>,
    options: RankingCallOptions,
  ): Promise<Answer> {
    return this.#ask({ path, body: JSON.stringify(request) }, schema, options);
  }

  #get<Answer>(
    path: string,
    schema: z.ZodType<Answer>,
    options: RankingCallOptions,
  ): Promise<Answer> {
    return this.#ask({ path, body: null }, schema, options);
  }

  async #ask<Answer>(
    { path, body }: Asked,
    schema: z.ZodType<Answer>,
    { signal }: RankingCallOptions,
  ): Promise<Answer> {
    const { timeoutMs, attemptsMax, url } = this.#options;
    const endMs = this.#clock.monotonicMs() + timeoutMs;
    const where = addressBelow(url, path);
    for (let attempt = 1; ; attempt += 1) {
      const leftMs = Math.floor(endMs - this.#clock.monotonicMs());
      const outcome = await this.#attempt(where, body, {
        ...{ leftMs: Math.max(1, leftMs), signal },
      });
      if ('content' in outcome) return answerIn(outcome.content, schema, where);
      const waitMs = outcome.retryAfterMs;
      const isInTime = waitMs !== null && this.#clock.monotonicMs() + waitMs < endMs;
      if (!isInTime || attempt >= attemptsMax) throw outcome.failure;
      await this.#clock.sleep(waitMs, signal);
      signal?.throwIfAborted();
    }
  }

  async #attempt(
    where: string,
    body: string | null,
    { leftMs, signal }: RankingCallOptions & { readonly leftMs: number },
  ): Promise<Outcome> {
    const { token } = this.#options;
    const timeout = AbortSignal.timeout(leftMs);
    try {
      const response = await fetch(where, {
        ...(body === null ? { method: 'GET' } : { method: 'POST', body }),
        headers: {
          ...(body === null ? {} : { 'Content-Type': 'application/json' }),
          'Qianmo-Deadline-Ms': String(leftMs),
          ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        },
        signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
      });
      const content = contentOf(await response.text());
      return response.status === 200 ? { content } : refusalOf(response, content, where);
    } catch (cause) {
      signal?.throwIfAborted();
      return {
        // A server that is being replaced refuses connections for a moment.
        retryAfterMs: timeout.aborted ? null : CONNECTION_WAIT_MS,
        failure: new QianmoError({
          kind: 'environment',
          what: timeout.aborted
            ? 'the server did not answer in time'
            : 'the server cannot be asked',
          where,
          found: messageOf(cause),
          cure: 'check that the server runs there, or give a longer timeoutMs',
          cause,
        }),
      };
    }
  }
}

const CONNECTION_WAIT_MS = 50;
/** Joins the values of several columns to one key. */
const KEY_SEPARATOR = '\u001f';

function segmentOf(adgroup: AdgroupKey): string {
  return encodeURIComponent([adgroup].flat().map(String).join(KEY_SEPARATOR));
}

interface Asked {
  readonly path: string;
  /** Null for a path that is read. */
  readonly body: string | null;
}

type Outcome =
  | { readonly content: unknown }
  | { readonly failure: QianmoError; readonly retryAfterMs: number | null };

/** The text itself where it is not JSON, as pages of a proxy are not. */
function contentOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function refusalOf(response: Response, content: unknown, where: string): Outcome {
  const { status, headers } = response;
  const problem = ProblemSchema.safeParse(content).data;
  const isPassing = status === 429 || status === 503;
  const seconds = Number(headers.get('retry-after') ?? NaN);
  const waits = seconds >= 0 && seconds <= RETRY_AFTER_SECONDS_MAX ? seconds * 1_000 : null;
  // The proxy has no connection to the server, which may be replaced just then.
  const isUnconnected = status === 502;
  return {
    retryAfterMs: isUnconnected ? CONNECTION_WAIT_MS : isPassing ? waits : null,
    failure: new QianmoError({
      kind: isPassing || status >= 500 ? 'environment' : 'usage',
      what: problem?.what ?? `the server answers with status ${status}`,
      where: problem?.where === undefined ? where : `${where}: ${problem.where}`,
      ...(problem?.expected === undefined ? {} : { expected: problem.expected }),
      ...(problem?.found === undefined ? {} : { found: problem.found }),
      cure:
        problem?.cure ??
        (status === 502 || status === 504
          ? 'look whether the server behind the proxy runs'
          : 'look into the log of the server'),
    }),
  };
}

function answerIn<Answer>(content: unknown, schema: z.ZodType<Answer>, where: string): Answer {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw errorOf('environment', 'the answer is not that of a ranking server', {
    where,
    found: z.prettifyError(parsed.error).slice(0, 500),
    cure: 'check the address, and that client and server are of one version',
  });
}

/** `fetch` hides what happened in the cause. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
