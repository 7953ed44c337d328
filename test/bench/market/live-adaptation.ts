/**
 * A bundle in memory with a block for every adgroup of the world, and its live adaptation: adgroups
 * that were shown adapt again, by `adapt` jobs on their rows of the log and of the market.
 */

import { at, float32At, float64At, numberAt } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { blockBytes, writeBlock } from '../../../shared/bundle/block-codec.js';
import { blockOfKey, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import { offsetOf } from '../../../shared/bundle/calibration.js';
import type { BundleManifest, BundleServing } from '../../../shared/bundle/bundle-manifest.js';
import type { PersonalBlocks, RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { MetaParameters } from '../../../shared/models/meta-parameters.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import type { TaskEntry, TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { adaptTasks } from '../../../coordinator/evaluation/task-jobs.js';
import type { LocalCompute } from '../../../coordinator/export/unknown-block.js';
import { servedBlocksOf } from '../../../coordinator/export/adapted-shards.js';
import type { PreparedRun, RunCaller } from '../../../coordinator/plan/prepared-run.js';
import type { EncodedMarket } from './encoded-market.js';

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
  readonly run: PreparedRun;
  readonly parameters: MetaParameters;
  readonly compute: LocalCompute;
  readonly caller: RunCaller;
  readonly encoded: EncodedMarket;
  readonly rowsMax: number;
}

const ATTEMPTS_MAX = 2;

export class LiveAdaptation {
  readonly #source: AdaptationSource;
  readonly #history: ReadonlyMap<number, TaskRows>;
  readonly #store: ChangingStore;
  readonly #dispatcher: Dispatcher;
  #waveCount = 0;

  private constructor(
    source: AdaptationSource,
    history: ReadonlyMap<number, TaskRows>,
    store: ChangingStore,
    dispatcher: Dispatcher,
  ) {
    this.#source = source;
    this.#history = history;
    this.#store = store;
    this.#dispatcher = dispatcher;
  }

  static async open(source: AdaptationSource): Promise<LiveAdaptation> {
    const { run, compute, caller } = source;
    const rows = await run.store.readTasks(run.store.tasks.map(({ taskIndex }) => taskIndex));
    const history = new Map(
      rows.map((task) => [Number(at(run.store.tasks, task.taskIndex).key), task]),
    );
    const store = new ChangingStore(run.store);
    const dispatcher = createInMemoryDispatcher({
      ...{ executors: [await compute.executorOn(store)], attemptsMax: ATTEMPTS_MAX },
      ...{ clock: caller.clock, sink: caller.sink },
    });
    return new LiveAdaptation(source, history, store, dispatcher);
  }

  /** Adapts the adgroups that are served adapted blocks, writes their blocks and returns them. */
  async refresh(bundle: LiveBundle, adgroups: readonly ShownAdgroup[]): Promise<number[]> {
    const serving = at(bundle.manifest.serving, 0);
    const joined = adgroups.map((each) => ({ each, rows: this.#rowsOf(each) }));
    const adapting = joined.filter(
      ({ rows }) => servedBlocksOf(serving, rows.rowCount) === 'adapted',
    );
    this.#store.replace(adapting.map(({ rows }, taskIndex) => ({ ...rows, taskIndex })));
    for await (const task of this.#adapted(serving)) {
      bundle.replace(at(adapting, task.taskIndex).each.adgroup, task);
    }
    return adapting.map(({ each }) => each.adgroup);
  }

  async *#adapted({ adaptation }: BundleServing): AsyncGenerator<AdaptedTask> {
    const { run, parameters, caller } = this.#source;
    const { method } = run.config;
    const context = {
      ...run,
      ...{ store: this.#store, dispatcher: this.#dispatcher, signal: caller.signal },
      runId: `${run.config.run.slice(0, 100)}-market`,
      nextWave: () => this.#waveCount++,
      onTasksDone: () => undefined,
      onBackend: () => undefined,
    };
    const taskIndices = this.#store.tasks.map(({ taskIndex }) => taskIndex);
    const request = { parameters, method, taskIndices, adaptation, rows: 'support' } as const;
    for await (const tasks of adaptTasks(context, request)) yield* tasks;
  }

  /** The latest rows of an adgroup: those of the log, then those of the market. */
  #rowsOf({ adgroup, rows }: ShownAdgroup): TaskRows {
    const { rowsMax, encoded } = this.#source;
    const past = this.#history.get(adgroup);
    const fromMarket = rows.slice(Math.max(0, rows.length - rowsMax));
    const pastCount = Math.min(past?.rowCount ?? 0, rowsMax - fromMarket.length);
    const firstPast = (past?.rowCount ?? 0) - pastCount;
    const rowCount = pastCount + fromMarket.length;
    const { manifest } = this.#source.run.store;
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
      ...{ taskIndex: 0, rowCount, supportRowCount: rowCount },
      ...{ categoryIds, bagIds: [], numbers, clicks, oracle: null },
      impressions: new Float32Array(rowCount).fill(1),
      times: new Float64Array(rowCount),
      logRows: new Float64Array(rowCount),
    };
  }
}

/** A store in memory whose tasks are replaced from refresh to refresh. */
class ChangingStore implements TaskStore {
  readonly manifest: TaskStore['manifest'];
  readonly digest = 'adgroups of the market';
  tasks: readonly TaskEntry[] = [];
  #rows: readonly TaskRows[] = [];

  constructor({ manifest }: Pick<TaskStore, 'manifest'>) {
    this.manifest = manifest;
  }

  replace(rows: readonly TaskRows[]): void {
    this.#rows = rows;
    this.tasks = rows.map(({ taskIndex, supportRowCount }) => ({
      ...{ taskIndex, key: String(taskIndex), split: 'train', firstSeenTime: null },
      ...{ supportRowCount, queryRowCount: 0 },
    }));
  }

  readTasks(taskIndices: readonly number[]): Promise<TaskRows[]> {
    return Promise.resolve(taskIndices.map((taskIndex) => at(this.#rows, taskIndex)));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
