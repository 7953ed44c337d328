/**
 * A bundle in memory with a block for every adgroup of the world, and its live adaptation: adgroups that were shown
 * adapt again on their rows of the log and of the market, by the jobs that a server sends.
 */

import { at, float32At, float64At, numberAt } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { blockBytes, writeBlock } from '../../../shared/bundle/block-codec.js';
import { blockOfKey, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import { offsetOf } from '../../../shared/bundle/calibration.js';
import type { BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import type { PersonalBlocks, RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { servedBlocksOf } from '../../../coordinator/export/adapted-shards.js';
import type { EncodedMarket } from './encoded-market.js';
import type { LabelledRows } from '../../../worker/serving/server/kernel-adapter.js';
import { AdaptJobs } from '../../../worker/serving/server/live-adapter.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';

/** Impressions of the market whose outcome is known, in order of time. */
export interface ShownAdgroup {
  readonly adgroup: number;
  readonly rows: readonly { readonly auction: number; readonly isClick: boolean }[];
}

/** Scorers read the blocks in place, and adaptation writes them. */
export class LiveBundle {
  readonly digest: string;
  readonly manifest: BundleManifest;
  /** Block `adgroup + 1` is that of an adgroup. */
  readonly model: RankingModel;
  /** Of calibrated outputs: `[adgroupCount]`. */
  readonly #offsets: Float32Array;
  /** Impressions of the log that the bundle has adapted to: `[adgroupCount]`. */
  readonly #loggedImpressions: Float64Array;

  constructor(digest: string, loaded: LoadedBundle, adgroupCount: number) {
    const { model, manifest, index, offsets } = loaded;
    this.digest = digest;
    this.manifest = manifest;
    this.#offsets = new Float32Array(adgroupCount);
    this.#loggedImpressions = new Float64Array(adgroupCount);
    const blocks = blocksFor(adgroupCount, model.blocks);
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) {
      const block = blockOfKey(index, String(adgroup));
      blockBytes(blocks, adgroup + 1).set(blockBytes(model.blocks, block));
      this.#offsets[adgroup] = float32At(offsets, block);
      this.#loggedImpressions[adgroup] = float64At(model.blocks.evidence.impressions, block);
    }
    blockBytes(blocks, UNKNOWN_BLOCK).set(blockBytes(model.blocks, UNKNOWN_BLOCK));
    this.model = { ...model, blocks };
  }

  /** The calibrated probability of a click. */
  probabilityOf(adgroup: number, logit: number): number {
    const { slope } = at(this.manifest.calibrations, 0);
    return sigmoid(slope * logit + float32At(this.#offsets, adgroup));
  }

  loggedImpressionsOf(adgroup: number): number {
    return float64At(this.#loggedImpressions, adgroup);
  }

  replace(adgroup: number, { blocks: variables, loss, support }: AdaptedTask): void {
    const { blocks } = this.model;
    const target = blockBytes(blocks, adgroup + 1);
    writeBlock(blocks.layout, variables, target);
    this.#offsets[adgroup] = offsetOf(at(this.manifest.calibrations, 0), loss, support);
  }
}

function blocksFor(adgroupCount: number, { layout, evidence }: PersonalBlocks): PersonalBlocks {
  const blockCount = adgroupCount + 1;
  return {
    ...{ layout, blockCount },
    blocksPerShard: 2 ** Math.ceil(Math.log2(blockCount)),
    shards: [new Uint8Array(new ArrayBuffer(blockCount * layout.strideByteCount))],
    evidence: {
      ...evidence,
      supportRowCounts: new Uint32Array(blockCount),
      clicks: new Float64Array(blockCount),
      impressions: new Float64Array(blockCount),
    },
    isOfValues: new Uint8Array(blockCount),
    isAlone: new Uint8Array(blockCount),
  };
}

interface AdaptationSource {
  readonly store: TaskStore;
  readonly executor: JobExecutor;
  readonly digest: string;
  readonly loaded: LoadedBundle;
  readonly encoded: EncodedMarket;
  readonly rowsMax: number;
}

const JOB_ADGROUPS_MAX = 64;

export class LiveAdaptation {
  readonly #source: AdaptationSource;
  readonly #history: ReadonlyMap<number, TaskRows>;
  readonly #jobs: AdaptJobs;

  private constructor(source: AdaptationSource, history: ReadonlyMap<number, TaskRows>) {
    this.#source = source;
    this.#history = history;
    this.#jobs = new AdaptJobs(source.digest, source.loaded);
  }

  static async open(source: AdaptationSource): Promise<LiveAdaptation> {
    const { tasks } = source.store;
    const rows = await source.store.readTasks(tasks.map(({ taskIndex }) => taskIndex));
    const history = rows.map((task) => [Number(at(tasks, task.taskIndex).key), task] as const);
    return new LiveAdaptation(source, new Map(history));
  }

  /** Adapts the adgroups that are served adapted blocks, writes their blocks and returns them. */
  async refresh(bundle: LiveBundle, adgroups: readonly ShownAdgroup[]): Promise<number[]> {
    const serving = at(bundle.manifest.serving, 0);
    const adapting = adgroups
      .map(({ adgroup, rows }) => ({ adgroup, labelled: this.#rowsOf({ adgroup, rows }) }))
      .filter(({ labelled }) => servedBlocksOf(serving, labelled.rows.rowCount) === 'adapted');
    for (let first = 0; first < adapting.length; first += JOB_ADGROUPS_MAX) {
      const own = adapting.slice(first, first + JOB_ADGROUPS_MAX);
      const rows = own.map(({ labelled }) => labelled);
      const input = this.#jobs.inputOf(rows, serving.adaptation);
      const { output } = await this.#source.executor.execute(input);
      for (const task of this.#jobs.tasksIn(output, own.length))
        bundle.replace(at(own, task.taskIndex).adgroup, task);
    }
    return adapting.map(({ adgroup }) => adgroup);
  }

  /** The latest rows of an adgroup: those of the log, then those of the market. */
  #rowsOf({ adgroup, rows }: ShownAdgroup): LabelledRows {
    const { rowsMax, encoded } = this.#source;
    const past = this.#history.get(adgroup);
    const fromMarket = rows.slice(Math.max(0, rows.length - rowsMax));
    const pastCount = Math.min(past?.rowCount ?? 0, rowsMax - fromMarket.length);
    const firstPast = (past?.rowCount ?? 0) - pastCount;
    const rowCount = pastCount + fromMarket.length;
    const { manifest } = this.#source.store;
    type Column = ArrayLike<number>;
    /** The values of each feature of a kind. */
    const columnsOf = (
      kind: 'category' | 'number',
      logged: readonly Column[] | undefined,
      columns: { readonly context: readonly Column[]; readonly adgroup: readonly Column[] },
    ): number[][] =>
      manifest.features
        .filter((feature) => feature.kind === kind)
        .map(({ name }, place) => {
          const isOfContext = encoded.contextFeatures.includes(name);
          const column = at(isOfContext ? columns.context : columns.adgroup, place);
          return [
            ...Array.from({ length: pastCount }, (_, row) =>
              numberAt(at(logged ?? [], place), firstPast + row),
            ),
            ...fromMarket.map(({ auction }) => numberAt(column, isOfContext ? auction : adgroup)),
          ];
        });
    const { contexts, adgroups } = encoded;
    const categoryIds = columnsOf('category', past?.categoryIds, {
      ...{ context: contexts.categoryIds, adgroup: adgroups.categoryIds },
    }).map((ids) => Int32Array.from(ids));
    const numbers = columnsOf('number', past?.numbers, {
      ...{ context: contexts.numbers, adgroup: adgroups.numbers },
    }).map((values) => Float32Array.from(values));
    const clicks = Float32Array.from([
      ...(past?.clicks.slice(firstPast) ?? []),
      ...fromMarket.map(({ isClick }) => (isClick ? 1 : 0)),
    ]);
    return {
      rows: { rowCount, categoryIds, bagIds: [], numbers },
      ...{ loss: 'binary', clicks, impressions: new Float32Array(rowCount).fill(1) },
    };
  }
}
