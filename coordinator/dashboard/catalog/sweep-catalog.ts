/**
 * Sweeps, searches and comparisons among the outputs that a dashboard finds. Their calls keep a log there as runs do;
 * what they found lies beside it.
 */

import type { Clock } from '../../../shared/base/clock.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { parseComparison, type ComparisonReport } from '../../scoring/compare-runs.js';
import { parseSweepRecord, type SweepRecord } from '../../sweep/sweep-record.js';
import type { CatalogedRun, RunCatalog } from './run-catalog.js';
import { KeptValues } from './kept-values.js';

type Findings =
  | { readonly kind: 'sweep' | 'search'; readonly record: SweepRecord; readonly page: string }
  | { readonly kind: 'comparison'; readonly report: ComparisonReport; readonly page: string };

export interface CatalogedSweep extends CatalogedRun {
  /** Null as long as nothing was written that can be read. */
  readonly findings: Findings | null;
}

export interface CatalogedSweeps {
  /** The latest first. */
  readonly sweeps: readonly CatalogedSweep[];
  /** There are more, which were not read. */
  readonly isCut: boolean;
}

const FILE_BY_CALL = { sweep: 'sweep', auto: 'auto', compare: 'comparison' } as const;
const SWEEPS_MAX = 200;
const FILE_BYTE_COUNT_MAX = 32 * 1024 * 1024;
const LIST_KEPT_FOR_MS = 5_000;

export class SweepCatalog {
  readonly #runs: RunCatalog;
  readonly #listed: KeptValues<CatalogedSweeps>;

  constructor(runs: RunCatalog, clock: Clock) {
    this.#runs = runs;
    this.#listed = new KeptValues(clock, LIST_KEPT_FOR_MS);
  }

  sweeps(): Promise<CatalogedSweeps> {
    return this.#listed.value('', () => this.#list());
  }

  /** Null if no sweep or comparison has the key. */
  async open(key: string): Promise<CatalogedSweep | null> {
    const { runs } = await this.#runs.runs();
    const run = runs.find((each) => each.key === key);
    return run === undefined || fileOf(run) === null ? null : this.#read(run);
  }

  async #list(): Promise<CatalogedSweeps> {
    const { runs } = await this.#runs.runs();
    const found = runs.filter((run) => fileOf(run) !== null);
    const sweeps: CatalogedSweep[] = [];
    for (const run of found.slice(0, SWEEPS_MAX)) sweeps.push(await this.#read(run));
    return { sweeps, isCut: found.length > SWEEPS_MAX };
  }

  async #read(run: CatalogedRun): Promise<CatalogedSweep> {
    const [file, output] = [fileOf(run), await this.#runs.storeOf(run.key)];
    const findings = file === null || output === null ? null : await findingsIn(output, file);
    return { ...run, findings };
  }
}

/** The name of what the last call of an output writes; null for calls of other kinds. */
function fileOf({ status: { callName } }: CatalogedRun): FileName | null {
  return callName !== null && Object.hasOwn(FILE_BY_CALL, callName)
    ? FILE_BY_CALL[callName as keyof typeof FILE_BY_CALL]
    : null;
}

type FileName = (typeof FILE_BY_CALL)[keyof typeof FILE_BY_CALL];

/** A file that was changed, or that another version wrote, is none: the other pages stay. */
async function findingsIn(output: ObjectStore, file: FileName): Promise<Findings | null> {
  try {
    const object = await output.get(`${file}.json`, FILE_BYTE_COUNT_MAX);
    if (object === null) return null;
    const text = Buffer.from(object.bytes).toString('utf8');
    const [where, page] = [`${output.address}/${file}.json`, `${file}.html`];
    if (file === 'comparison')
      return { kind: 'comparison', report: parseComparison(text, where), page };
    const record = parseSweepRecord(text, where);
    return { kind: file === 'auto' ? 'search' : 'sweep', record, page };
  } catch {
    return null;
  }
}
