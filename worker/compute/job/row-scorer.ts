/**
 * Scores rows of adapted tasks outside of any job: the logits that an evaluation predicts for the same
 * rows, bit for bit. It holds the shared variables of one model; adapted tasks and rows come with each
 * call, so a server may keep blocks wherever it likes.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import type { EncodedRows } from '../../../shared/features/row-encoder.js';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { type TaskRows, withTrainedPadding } from '../../../shared/tasks/task-store.js';
import {
  gatherRows,
  elementCountOf,
  type EmbeddingTable,
  type NamedTensors,
} from '../../../shared/tensors/named-tensors.js';
import { rowExtent, taskExtent, type MicroBatch } from '../../../shared/tasks/micro-batches.js';
import { localIdsByTable } from '../models/row-batch.js';
import { encodedColumnsOf, inputsOfOtherRows } from '../../../shared/bundle/support-rows.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { batchesOf, paddedPack, type DeviceTasks } from '../models/device-tasks.js';
import { captureScoring, type ScoringFunctions } from './adapt-tasks.js';

interface ScoringModel {
  readonly spec: ModelSpec;
  /** All dense variables, the shared personal ones included. */
  readonly dense: NamedTensors;
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
}

interface ScoredTask {
  readonly adapted: AdaptedTask;
  readonly rows: EncodedRows;
}

/** Padded rows scored at once. */
const ROWS_MAX = 16_384;

export class RowScorer {
  readonly #engine: Engine;
  readonly #model: ScoringModel;
  readonly #functions: ScoringFunctions;
  readonly #dense: { readonly [name: string]: tfjs.Tensor };

  constructor(engine: Engine, model: ScoringModel, shelves: GraphShelves | null = null) {
    this.#engine = engine;
    this.#model = model;
    this.#functions = captureScoring(engine, model.spec, shelves);
    const { tf } = engine;
    this.#dense = Object.fromEntries(
      model.spec.variables.map(({ name, shape }) => {
        const values = model.dense.get(name)?.values;
        if (values === undefined) throw new Error(`the model has no variable ${name}`);
        return [name, tf.keep(tf.tensor(values, [...shape], 'float32'))];
      }),
    );
  }

  /** Logits of each task's rows, or of tasks of values the standardised values. */
  score(scored: readonly ScoredTask[], rowsMax = ROWS_MAX): Float32Array[] {
    const logits = scored.map(({ rows }) => new Float32Array(rows.rowCount));
    const tasks = scored.map((each) => this.#taskOf(each));
    this.#engine.tf.tidy(() => {
      const onDevice = this.#onDevice(tasks);
      for (const microBatch of scoringMicroBatches(scored, rowsMax)) {
        const padded = this.#padded(onDevice, scored, microBatch);
        for (const [index, place] of microBatch.taskPlaces.entries()) {
          const first = index * microBatch.queryExtent;
          const target = at(logits, place);
          target.set(padded.subarray(first, first + target.length));
        }
      }
    });
    return logits;
  }

  dispose(): void {
    this.#functions.dispose();
    this.#engine.tf.dispose({ ...this.#dense });
  }

  /** Rows with all inputs of the model; none of them is a support row, and none has a label. */
  #taskOf({ adapted, rows }: ScoredTask): TaskRows {
    const { spec } = this.#model;
    const { rowCount, categoryIds, numbers } = rows;
    const { supportInputs } = spec.options;
    const encoded = encodedColumnsOf(supportInputs, spec.categoryFeatures);
    const nothing = new Float32Array(rowCount);
    return {
      ...{ taskIndex: adapted.taskIndex, rowCount, supportRowCount: 0, categoryIds },
      bagIds: withTrainedPadding(spec.options, rows.bagIds, (bag) => this.#paddingId(bag)),
      numbers:
        supportInputs === undefined
          ? numbers
          : [
              ...numbers,
              ...inputsOfOtherRows(
                supportInputs,
                adapted,
                rowCount,
                encoded.map((column) => at(categoryIds, column)),
              ),
            ],
      ...{ clicks: nothing, impressions: nothing, oracle: null },
      times: new Float64Array(rowCount),
      logRows: new Float64Array(rowCount),
    };
  }

  /** The last row of the bag's table. */
  #paddingId(bag: number): number {
    const { tables, categoryFeatures } = this.#model.spec;
    return at(tables, categoryFeatures.length + bag).rowCount - 1;
  }

  #onDevice(tasks: readonly TaskRows[]): DeviceTasks {
    const { spec, tables } = this.#model;
    const layout = rowPackLayoutOf(tasks);
    const write = (rows: Float32Array): void => {
      for (const [index, { name }] of spec.tables.entries()) {
        const table = tables.get(name);
        if (table === undefined) throw new Error(`the model has no table ${name}`);
        gatherRows(table, at(layout.idsByTable, index), rows, at(layout.startByTable, index));
      }
    };
    return {
      ...{ engine: this.#engine, spec, tasks, dense: this.#dense },
      pack: paddedPack(this.#engine, spec, { rowCount: layout.rowCount, write }),
      localIds: localIdsByTable(layout),
    };
  }

  /** Logits of a micro-batch, `[taskCount, queryExtent]`. */
  #padded(
    onDevice: DeviceTasks,
    scored: readonly ScoredTask[],
    microBatch: MicroBatch,
  ): Float32Array {
    const { taskCount, taskPlaces } = microBatch;
    const { dense, pack } = onDevice;
    const { batches, bags } = batchesOf(onDevice, microBatch, { roles: ['query'] });
    const batch = batches.query;
    if (batch === undefined) throw new Error('a micro-batch has rows');
    const input = { dense, ...pack, ...(bags === undefined ? {} : { bags }), batch };
    const trunk = this.#functions.trunk.run(input);
    const own = taskPlaces.map((place) => at(scored, place));
    const logits = this.#functions.logits.run({
      ...{ dense, batch, trunk },
      state: this.#blocksOf(own, taskCount),
    });
    return logits.dataSync<'float32'>();
  }

  /** `[taskCount, ...shape]` by own variable, 0 beyond the last task. */
  #blocksOf(
    scored: readonly ScoredTask[],
    taskCount: number,
  ): { readonly [name: string]: tfjs.Tensor } {
    const { tf } = this.#engine;
    return Object.fromEntries(
      this.#model.spec.ownVariables.map(({ name, shape }) => {
        const size = elementCountOf(shape);
        const values = new Float32Array(taskCount * size);
        for (const [index, { adapted }] of scored.entries()) {
          const block = adapted.blocks.get(name);
          if (block === undefined) throw new Error(`an adapted task has no block ${name}`);
          values.set(block.values, index * size);
        }
        return [name, tf.tensor(values, [taskCount, ...shape], 'float32')];
      }),
    );
  }
}

/**
 * Layout rule of scoring: the logit of a row is the same, bit for bit, in any batch of several tasks
 * and several rows. Tasks that adapted alone are scored alone. Extents come from ladders, so that
 * shapes are few.
 */
function scoringMicroBatches(
  scored: readonly ScoredTask[],
  rowsMax: number,
): readonly MicroBatch[] {
  const microBatchOf = (taskPlaces: readonly number[], taskCount: number, extent: number) => ({
    ...{ taskPlaces, taskCount, supportExtent: 0, queryExtent: extent, flatExtent: 0 },
  });
  const alone: MicroBatch[] = [];
  const placesByExtent = new Map<number, number[]>();
  for (const [place, { rows, adapted }] of scored.entries()) {
    if (rows.rowCount === 0) continue;
    const extent = rowExtent(rows.rowCount);
    if (adapted.isAlone) alone.push(microBatchOf([place], 1, extent));
    else placesByExtent.set(extent, [...(placesByExtent.get(extent) ?? []), place]);
  }
  const together = [...placesByExtent].flatMap(([extent, places]) => {
    const taskCountMax = Math.max(1, Math.floor(rowsMax / extent));
    return Array.from({ length: Math.ceil(places.length / taskCountMax) }, (_, batch) => {
      const taskPlaces = places.slice(batch * taskCountMax, (batch + 1) * taskCountMax);
      const taskCount = Math.max(2, taskExtent(taskPlaces.length, extent, rowsMax));
      return microBatchOf(taskPlaces, taskCount, extent);
    });
  });
  return [...alone, ...together];
}
