/**
 * The evidence of one machine: a ledger in memory, and the log of its batches on disk. A batch is synced before it is
 * acknowledged; batches that arrive during a sync share the next one. A log that has grown is replaced by snapshots of
 * the ledger, which stands still until they are written. After a kill, the whole lines are taken again; half a line was
 * never acknowledged.
 */

import { open, readFile, type FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../../shared/base/system-errors.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import { openAppendedLines } from '../../../shared/events/appended-lines.js';
import { replaceByPieces, replaceDurably } from '../../../shared/storage/file-bytes.js';
import {
  EvidenceLedger,
  FeedbackEventSchema,
  type Evidence,
  type FeedbackEvent,
  type Receipt,
} from './evidence-ledger.js';
import type { EvidenceCounts, EvidenceStore } from './evidence-store.js';
import type { LearnedNumbers, Learning } from './learned-weights.js';
import { SharedWrites } from './shared-writes.js';

/** A log is replaced when it has this and twice what the snapshots of its ledger had. */
const LOG_BYTE_COUNT_MIN = 64 * 1024 * 1024;
/** Events, adgroups or learned numbers of one snapshot: a few milliseconds of work. */
const SNAPSHOT_ENTRIES_MAX = 1_000;
/** A map of the engine has room for 16.7 million entries. */
const LEDGER_ENTRIES_MAX = 10_000_000;
/** The mode of a file that nobody else may read. */
const OWNER_ONLY = 0o600;

const LineSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('snapshot'), ledger: z.unknown() }),
  z.strictObject({
    kind: z.literal('batch'),
    nowMs: z.number(),
    events: z.array(FeedbackEventSchema),
  }),
]);

interface EvidenceLogOptions {
  /** No other process may use it. */
  readonly path: string;
  readonly clock: Clock;
  readonly feedback: ExplorationConfig['feedback'];
  /** Null, as if absent, where no policy learns weights. */
  readonly learning?: Learning | null;
  readonly byteCountMin?: number;
  /** Called before each write, which its failure prevents. */
  readonly assertOwned?: (() => Promise<void>) | undefined;
}

/**
 * @throws QianmoError `usage` if the settings want more memory than a process has, `data` if a whole line of the log is not
 *   what was written.
 */
export async function openEvidenceLog(options: EvidenceLogOptions): Promise<EvidenceStore> {
  for (const name of ['eventsMax', 'adgroupsMax'] as const)
    if (options.feedback[name] > LEDGER_ENTRIES_MAX) throw tooLarge(name, options.feedback[name]);
  const path = resolve(options.path);
  const ledger = new EvidenceLedger(options.feedback, options.learning ?? null);
  let snapshotByteCount = 0;
  try {
    const file = await openAppendedLines(path, (line, where) => {
      if (restore(ledger, line, where) === 'snapshot') snapshotByteCount += line.length;
    });
    return new EvidenceLog({ ...options, path }, ledger, { file, snapshotByteCount });
  } catch (cause) {
    throw systemFailure(cause, 'opening the log of evidence', path);
  }
}

class EvidenceLog implements EvidenceStore {
  readonly #options: EvidenceLogOptions;
  readonly #ledger: EvidenceLedger;
  readonly #writes = new SharedWrites((batches) => this.#write(batches));
  #file: FileHandle;
  #snapshotByteCount: number;
  #isReplacing = false;
  #failure: QianmoError | null = null;

  constructor(
    options: EvidenceLogOptions,
    ledger: EvidenceLedger,
    { file, snapshotByteCount }: { readonly file: FileHandle; readonly snapshotByteCount: number },
  ) {
    this.#options = options;
    this.#ledger = ledger;
    this.#file = file;
    this.#snapshotByteCount = snapshotByteCount;
  }

  /** When the disk has failed, nothing is acknowledged, and the log must be opened again. */
  record(events: readonly FeedbackEvent[]): Promise<readonly Receipt[]> {
    return this.#writes.record(events);
  }

  evidenceOf(adgroups: readonly string[]): Promise<readonly Evidence[]> {
    this.#endWindows();
    return Promise.resolve(adgroups.map((adgroup) => this.#ledger.evidenceOf(adgroup)));
  }

  servedOf(adgroup: string): ReturnType<EvidenceStore['servedOf']> {
    this.#endWindows();
    return Promise.resolve(this.#ledger.servedOf(adgroup));
  }

  learned(): Promise<LearnedNumbers> {
    this.#endWindows();
    return Promise.resolve(this.#ledger.learned());
  }

  counts(): Promise<EvidenceCounts> {
    const { lateCount, duplicateCount } = this.#ledger;
    return Promise.resolve({ lateCount, duplicateCount });
  }

  async signingKey(fresh: string): Promise<string> {
    const path = `${this.#options.path}.key`;
    try {
      return await readFile(path, 'utf8').catch(async (error: unknown) => {
        if (systemCodeOf(error) !== 'ENOENT') throw error;
        await replaceDurably(path, Buffer.from(fresh), OWNER_ONLY);
        return fresh;
      });
    } catch (cause) {
      throw systemFailure(cause, 'keeping the key of event ids', path);
    }
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    await this.#file.close();
  }

  async #write(batches: readonly (readonly FeedbackEvent[])[]): Promise<(readonly Receipt[])[]> {
    if (this.#failure !== null) throw this.#failure;
    const { clock, path, byteCountMin = LOG_BYTE_COUNT_MIN, assertOwned } = this.#options;
    try {
      await assertOwned?.();
      const nowMs = clock.epochMs();
      const events = batches.flat();
      await this.#file.appendFile(`${JSON.stringify({ kind: 'batch', nowMs, events })}\n`);
      await this.#file.datasync();
      const receipts = batches.map((batch) => this.#ledger.take(batch, nowMs));
      const { size } = await this.#file.stat();
      if (size > Math.max(byteCountMin, 2 * this.#snapshotByteCount)) await this.#beginAnew();
      return receipts;
    } catch (cause) {
      this.#failure = systemFailure(cause, 'writing the log of evidence', path);
      throw this.#failure;
    }
  }

  /** Windows that end while the ledger stands still end with the next write. */
  #endWindows(): void {
    if (!this.#isReplacing) this.#ledger.take([], this.#options.clock.epochMs());
  }

  async #beginAnew(): Promise<void> {
    const { path } = this.#options;
    this.#isReplacing = true;
    try {
      this.#snapshotByteCount = await replaceByPieces(path, snapshotLinesOf(this.#ledger));
    } finally {
      this.#isReplacing = false;
    }
    await this.#file.close();
    this.#file = await open(path, 'a+');
  }
}

function* snapshotLinesOf(ledger: EvidenceLedger): Iterable<Uint8Array> {
  for (const text of ledger.snapshots(SNAPSHOT_ENTRIES_MAX))
    yield Buffer.from(`{"kind":"snapshot","ledger":${text}}\n`);
}

function restore(ledger: EvidenceLedger, line: string, where: string): 'snapshot' | 'batch' {
  try {
    const record = LineSchema.parse(JSON.parse(line));
    if (record.kind === 'snapshot') ledger.restore(record.ledger);
    else ledger.take(record.events, record.nowMs);
    return record.kind;
  } catch (cause) {
    throw damaged(where, cause);
  }
}

function tooLarge(name: string, found: number): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the memory of one process has no room for so much evidence',
    where: `feedback.${name}`,
    expected: `at most ${LEDGER_ENTRIES_MAX}`,
    found: `${found}`,
    cure: 'give --redis to keep the evidence there, or a smaller number',
  });
}

function damaged(where: string, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the log of evidence is damaged',
    where,
    expected: 'a snapshot or a batch of events, as a ranking server writes them',
    cure: 'restore the file from a copy, or move it away to begin without evidence',
    cause,
  });
}
