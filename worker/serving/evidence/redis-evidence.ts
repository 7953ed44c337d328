/**
 * The evidence of several machines, in one Redis. A batch is counted by one atomic call and acknowledged when the
 * append-only file of Redis is on disk; batches that arrive meanwhile share the next call. Event ids make every call
 * repeatable, so that a batch whose acknowledgement was lost is sent again.
 */

import { z } from 'zod';
import { at } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { redactedAddress } from '../../../shared/base/redacted-address.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import { connectRedis, type RedisConnection } from '../../../shared/queue/redis-connection.js';
import type { TlsFiles } from '../../../shared/storage/tls-files.js';
import type { Evidence, FeedbackEvent, Receipt, Served } from './evidence-ledger.js';
import { EVIDENCE_SCRIPT } from './evidence-script.js';
import type { EvidenceCounts, EvidenceStore } from './evidence-store.js';
import {
  LAPLACE_STEPS,
  learningName,
  PROBABILITY_MIN,
  type LearnedNumbers,
  type Learning,
} from './learned-weights.js';
import { SharedWrites } from './shared-writes.js';

const MS_PER_SECOND = 1_000;
/** Redis syncs its file every second, or with each write. */
const SYNC_MS_MAX = 5_000;
/** Windows and lifetimes that one call ends. */
const ENDED_MAX = 2_000;
/** How far the clock of a ranking server may run ahead of that of Redis. */
const AHEAD_MS_MAX = 60_000;
/** Names as the script has them. */
const SERVED_FIELDS = ['served', 'served:explored', 'served:propensities'] as const;

interface RedisEvidenceOptions {
  readonly url: string;
  /** Servers of one name share their evidence. */
  readonly name: string;
  readonly clock: Clock;
  readonly feedback: ExplorationConfig['feedback'];
  /** Null, as if absent, where no policy learns weights. */
  readonly learning?: Learning | null;
  readonly tls?: TlsFiles | null;
}

const numberText = z.string().transform(Number).pipe(z.number());
const ReplySchema = z.tuple([
  z.array(z.enum(['counted', 'duplicate', 'late', 'full'])),
  z.array(
    z.tuple([
      numberText,
      numberText,
      numberText,
      z.string().transform((text) => (text === '' ? null : Number(text))),
    ]),
  ),
  z.tuple([numberText, numberText]),
]);
type Reply = z.output<typeof ReplySchema>;

/** @throws QianmoError `environment` if Redis does not answer or keeps no append-only file. */
export async function openRedisEvidence(options: RedisEvidenceOptions): Promise<EvidenceStore> {
  const { url, name, tls = null } = options;
  const connect = (): Promise<RedisConnection> =>
    connectRedis({ url, role: 'producer', name: `qianmo-evidence-${name}`, tls });
  const writing = await connect();
  try {
    await durable(writing.call('WAITAOF', '1', '0', '1'), url, { isFirst: true });
    // A connection that waits for the disk answers nothing else.
    return new RedisEvidence(options, writing, await connect());
  } catch (error) {
    writing.disconnect();
    throw error;
  }
}

class RedisEvidence implements EvidenceStore {
  readonly #options: RedisEvidenceOptions;
  readonly #writing: RedisConnection;
  readonly #reading: RedisConnection;
  readonly #settings: string;
  readonly #writes = new SharedWrites((batches) => this.#write(batches));

  constructor(options: RedisEvidenceOptions, writing: RedisConnection, reading: RedisConnection) {
    this.#options = options;
    this.#writing = writing;
    this.#reading = reading;
    this.#settings = settingsText(options);
  }

  record(events: readonly FeedbackEvent[]): Promise<readonly Receipt[]> {
    return this.#writes.record(events);
  }

  async evidenceOf(adgroups: readonly string[]): Promise<readonly Evidence[]> {
    const [, evidence] = await this.#read(adgroups);
    return evidence.map(([impressions, rewards, open, firstMs]) => ({
      ...{ impressions, rewards, open, firstMs },
    }));
  }

  async servedOf(adgroup: string): Promise<{ readonly own: Served; readonly all: Served }> {
    const { url, name } = this.#options;
    // Ends the lifetimes of adgroups that have no impressions any more.
    await this.#read([]);
    const of = async (key: string): Promise<Served> => {
      const found = await this.#reading.hmget(`${prefixOf(name)}:${key}`, ...SERVED_FIELDS);
      const [impressions = 0, explored = 0, propensities = 0] = found.map(Number);
      return { impressions, explored, propensities };
    };
    try {
      const [own, all] = await Promise.all([of(`adgroup:${adgroup}`), of('counts')]);
      return { own, all };
    } catch (cause) {
      throw unavailable(url, cause);
    }
  }

  async learned(): Promise<LearnedNumbers> {
    const { url, name, learning = null } = this.#options;
    if (learning === null) return new Map();
    // Ends windows, whose default rewards teach too.
    await this.#read([]);
    try {
      const found = await this.#reading.hgetall(learnedKeyOf(name, learning));
      return new Map(Object.entries(found).map(([named, number]) => [named, Number(number)]));
    } catch (cause) {
      throw unavailable(url, cause);
    }
  }

  async counts(): Promise<EvidenceCounts> {
    const [, , [lateCount, duplicateCount]] = await this.#read([]);
    return { lateCount, duplicateCount };
  }

  async signingKey(fresh: string): Promise<string> {
    const { url, name } = this.#options;
    const key = `${prefixOf(name)}:key`;
    try {
      await Promise.all([
        this.#writing.set(key, fresh, 'NX'),
        durable(this.#writing.call('WAITAOF', '1', '0', String(SYNC_MS_MAX)), url),
      ]);
      return z.string().parse(await this.#writing.get(key));
    } catch (cause) {
      throw unavailable(url, cause);
    }
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    this.#writing.disconnect();
    this.#reading.disconnect();
  }

  #arguments(
    events: readonly FeedbackEvent[],
    adgroups: readonly string[],
  ): readonly [prefix: string, settings: string, nowMs: string, events: string, adgroups: string] {
    const { name, clock } = this.#options;
    const nowMs = String(clock.epochMs());
    return [
      prefixOf(name),
      this.#settings,
      nowMs,
      JSON.stringify(events),
      JSON.stringify(adgroups),
    ];
  }

  async #read(adgroups: readonly string[]): Promise<Reply> {
    try {
      const given = this.#arguments([], adgroups);
      return ReplySchema.parse(await this.#reading.eval(EVIDENCE_SCRIPT, 1, ...given));
    } catch (cause) {
      throw unavailable(this.#options.url, cause);
    }
  }

  async #write(batches: readonly (readonly FeedbackEvent[])[]): Promise<(readonly Receipt[])[]> {
    const given = this.#arguments(batches.flat(), []);
    // Written to one connection together: on another one, WAITAOF would wait for nothing.
    const counted = this.#writing.eval(EVIDENCE_SCRIPT, 1, ...given);
    const synced = durable(
      this.#writing.call('WAITAOF', '1', '0', String(SYNC_MS_MAX)),
      this.#options.url,
    );
    const [reply] = await Promise.all([counted, synced]).catch((cause: unknown) => {
      throw unavailable(this.#options.url, cause);
    });
    const [receipts] = ReplySchema.parse(reply);
    let start = 0;
    return batches.map(({ length }) => receipts.slice(start, (start += length)));
  }
}

/** With braces, all keys of a cluster are on one of its servers. */
function prefixOf(name: string): string {
  return `qianmo:{evidence:${name}}`;
}

/** As the script names it. */
function learnedKeyOf(name: string, learning: Learning): string {
  return `${prefixOf(name)}:learned:${learningName(learning)}`;
}

/** @throws QianmoError if the file of Redis is not known to be on disk. */
async function durable(
  waiting: Promise<unknown>,
  url: string,
  { isFirst = false }: { readonly isFirst?: boolean } = {},
): Promise<void> {
  const where = redactedAddress(url);
  let reply: unknown;
  try {
    reply = await waiting;
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    if (!/appendonly|unknown command/i.test(found)) throw unavailable(url, cause);
    throw new QianmoError({
      kind: 'environment',
      what: 'Redis cannot say when its data are on disk',
      ...{ where, found, cause },
      expected: 'Redis 7.2 or Valkey, with appendonly yes',
      cure: 'switch its append-only file on, or keep the state in a folder',
    });
  }
  const synced = z.tuple([z.number(), z.number()]).parse(reply);
  if (isFirst || at(synced, 0) >= 1) return;
  throw new QianmoError({
    kind: 'environment',
    what: 'Redis did not bring its data to disk in time',
    where,
    expected: `within ${SYNC_MS_MAX} ms`,
    cure: 'send the events again; see whether the disk of Redis is slow or full',
  });
}

function unavailable(url: string, cause: unknown): QianmoError {
  if (cause instanceof QianmoError) return cause;
  return new QianmoError({
    kind: 'environment',
    what: 'Redis does not answer for the evidence of adgroups',
    where: redactedAddress(url),
    found: cause instanceof Error ? cause.message : String(cause),
    cure: 'send the events again when Redis is back',
    cause,
  });
}

function settingsText({ feedback, learning = null }: RedisEvidenceOptions): string {
  const { windowSeconds, eventLifetimeSeconds, adgroupLifetimeSeconds } = feedback;
  const { defaultReward, eventsMax, adgroupsMax } = feedback;
  return JSON.stringify({
    windowMs: windowSeconds * MS_PER_SECOND,
    eventLifetimeMs: eventLifetimeSeconds * MS_PER_SECOND,
    adgroupLifetimeMs: adgroupLifetimeSeconds * MS_PER_SECOND,
    keptMs: Math.ceil((eventLifetimeSeconds + adgroupLifetimeSeconds) * MS_PER_SECOND),
    ...{ defaultReward, eventsMax, adgroupsMax },
    ...{ endedMax: ENDED_MAX, aheadMsMax: AHEAD_MS_MAX },
    ...{ laplaceSteps: LAPLACE_STEPS, probabilityMin: PROBABILITY_MIN },
    // Absent where nothing is learned, which the script asks for.
    learning: learning === null ? undefined : { ...learning, name: learningName(learning) },
  });
}
