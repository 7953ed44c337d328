/** Planted faults of the runtime. Each is text of a compiled file and what replaces it. */

interface Change {
  /** From the project's root. */
  readonly file: string;
  readonly text: string;
  readonly instead: string;
}

export interface Mutant {
  readonly name: string;
  readonly changes: readonly Change[];
  /** The first seed that finds it, with three workers. */
  readonly seed: number;
}

const STEP = 'coordinator/dispatch/dispatch-step';
const WRITER = 'coordinator/checkpoints/checkpoint-writer';

function mutant(name: string, seed: number, ...changes: readonly Change[]): Mutant {
  return { name, changes, seed };
}

function change(file: string, text: string, instead: string): Change {
  return { file, text, instead };
}

export const MUTANTS: readonly Mutant[] = [
  mutant(
    'lost workers cost no attempt',
    8,
    change(
      STEP,
      'const wasAway = this.#context.patience.lastAwayMs >= delivery.sentMs;',
      'const wasAway = true;',
    ),
  ),
  mutant(
    'READONLY is no outage',
    6,
    change('shared/queue/redis-connection', "['READONLY', 'MOVED',", "['MOVED',"),
  ),
  mutant(
    'redeliveries wait by the wall clock',
    125,
    change(
      STEP,
      'this.#heldBack.set(delivery, this.#context.clock.monotonicMs()',
      'this.#heldBack.set(delivery, this.#context.clock.epochMs()',
    ),
    change(STEP, 'dueMs]) => dueMs <= nowMs', 'dueMs]) => dueMs <= this.#context.clock.epochMs()'),
  ),
  mutant(
    'inputs are released again when their deletion is repeated',
    37,
    change(
      STEP,
      'this.#stepBlobs.delete(this.#stepBlobs.released(delivery.order));',
      'void this.#patiently(() => Promise.all(this.#stepBlobs.released(delivery.order).map((ref) => this.#context.blobs.delete(ref)))).catch(() => undefined);',
    ),
  ),
  mutant(
    'a job stays open after its result, and a second one is admitted',
    0,
    change(STEP, 'health.didJob(worker);', 'if (judged) return judged;'),
    change(
      'coordinator/dispatch/admission',
      'if (this.#admitted.has(result.jobIndex))',
      'if (false)',
    ),
  ),
  mutant(
    'lost inputs are not put again',
    6,
    change(STEP, 'await this.#stepBlobs.restore(delivery.order);', ''),
  ),
  mutant(
    'attempts have no bound',
    8,
    change(STEP, 'if (counted.length >= attemptsMax &&', 'if (false &&'),
  ),
  mutant(
    'jobs are read only when an event wakes',
    1,
    change(STEP, 'const RECONCILE_INTERVAL_MS = 1_500;', 'const RECONCILE_INTERVAL_MS = 1e12;'),
  ),
  mutant(
    'bytes are not compared with their reference',
    6,
    change(
      'shared/storage/blob-store',
      'if (found.sha256 === ref.sha256 && found.byteCount === ref.byteCount)',
      'if (found)',
    ),
  ),
  mutant(
    'numbers that are not finite are admitted',
    5,
    change(
      'shared/sums/gradient-node',
      'return Number.isFinite(squares + others);',
      'return true;',
    ),
  ),
  mutant(
    'the pointer is replaced before the manifest is there',
    0,
    change(
      WRITER,
      'await this.#putManifest(key, bytes);',
      'await this.#replaceLatest(latestBytes, latestEtag, key); await this.#putManifest(key, bytes); if (key) return receiptOf(this.#remember(manifest, key));',
    ),
  ),
  mutant(
    'checkpoints are written without a look at the claim',
    0,
    change(WRITER, 'await this.#options.claim?.demand();', ''),
  ),
  mutant(
    'old checkpoints are removed with blobs that others name',
    77,
    change(WRITER, 'if (named.has(key) || !BLOB_KEY', 'if (!BLOB_KEY'),
  ),
  mutant(
    'a holder does not recognise its own renewal',
    7,
    change(
      'shared/storage/lease',
      'if (epoch !== this.#held.epoch || holder?.start !== this.#held.start)',
      'if (epoch)',
    ),
  ),
  mutant(
    'the signatures of results are not compared',
    8,
    change(
      'shared/queue/signed-job-queue',
      "if (isGenuine(parted, { kind: 'result', jobId }, key))",
      'if (parted)',
    ),
  ),
  mutant(
    'results of machines of another kind are used',
    0,
    change(
      'coordinator/dispatch/admission',
      'if (!this.#record.fingerprints.admits(job, result))',
      'if (false)',
    ),
  ),
  mutant(
    'sums are added in order of arrival',
    0,
    change(
      'shared/sums/sum-tree',
      'let arrived = { ...node, sum };',
      'const all = this.#waiting.get(0); const end = (all?.end ?? 0) + node.end - node.first; this.#waiting.set(0, { first: 0, end, sum: all === undefined ? sum : this.#join(all.sum, sum) }); return; let arrived;',
    ),
  ),
  mutant(
    'sums that the store has lost are not computed again',
    0,
    change(STEP, 'await this.#recomputeLostParts(delivery);', ''),
  ),
  mutant(
    'jobs whose sums are lost are sent again outside the window',
    7866,
    change(
      STEP,
      'this.#unsent.splice(0, sendCount)',
      'this.#unsent.splice(0, Math.max(sendCount, this.#kept.reopened.size))',
    ),
  ),
  mutant(
    'sums go when their join is sent',
    0,
    change(
      STEP,
      'const sent = this.#sendFirst(delivery);',
      'const sent = this.#sendFirst(delivery); this.#stepBlobs.delete(this.#kept.release(order));',
    ),
  ),
  mutant(
    'inputs are released before the jobs that need them are removed',
    1278,
    change(
      STEP,
      'const tidy = async () => {',
      'queueMicrotask(release); const tidy = async () => {',
    ),
  ),
  mutant(
    'row packs are kept until the outer step ends',
    24,
    change(STEP, 'delivery.order.settled?.();', ''),
  ),
  mutant(
    'jobs are sent before their large inputs are stored',
    9,
    change(STEP, 'if (largeBlobs !== undefined)', 'if (false)'),
  ),
  mutant(
    'jobs are sent before the large inputs that they share are stored',
    15,
    change('coordinator/dispatch/step-blobs', 'await this.#leases.putOf(bytes);', ''),
  ),
  mutant(
    'a coordinator that has lost its claim moves the pointers back',
    197,
    change(
      WRITER,
      'await this.#options.claim?.demand();',
      'await this.#options.claim?.demand().catch(() => undefined);',
    ),
    change(WRITER, 'await this.#demandRightToReplace(found);', ''),
  ),
  mutant(
    'a resume forgets the best checkpoint',
    21,
    change(WRITER, 'this.#rememberBest(manifest, { manifest: manifestKey, sha256 });', ''),
  ),
  mutant(
    'old checkpoints are removed with the best one',
    3,
    change(WRITER, '...{ bestKey, kept,', '...{ bestKey: undefined, kept,'),
  ),
  mutant(
    'an outage of the object store ends a run that waits for it',
    28,
    change(
      'shared/storage/waiting-object-store',
      'if (!(error instanceof StoreUnavailableError))',
      'if (error)',
    ),
  ),
];
