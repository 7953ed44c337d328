/**
 * One whole meta step of a workload on our side. Batches stay on the device, and layers are passed
 * from step to step as tensors. From the embedding table a step takes the rows it touches, and it
 * returns their change.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { captureByShape } from '../../../../worker/compute/engine/capture/capture-by-shape.js';
import {
  capture,
  type CaptureStatistics,
} from '../../../../worker/compute/engine/capture/capture.js';
import type { Graph } from '../../../../worker/compute/engine/graph/graph.js';
import {
  leavesOf,
  type TensorStructure,
} from '../../../../worker/compute/engine/capture/tensor-structure.js';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import type { Cell } from './cells.js';
import {
  denseMetaStep,
  stepped,
  tableMetaStep,
  type DenseInput,
  type Layers,
  type StepTerms,
  type TableInput,
} from './meta-step-graphs.js';
import { createGrouping, createRowTable, type Occurrences } from './row-table.js';
import type { WorkloadArrays } from './workload-data.js';

export const OUR_VARIANTS = ['eager', 'captured', 'rewritten'] as const;
type OurVariant = (typeof OUR_VARIANTS)[number];

export interface OurMetaStep {
  /** Performs a meta step on a batch. */
  readonly run: (batchIndex: number) => void;
  /** The current layers, alternating weights and biases. */
  readonly layers: () => Float32Array[];
  /** The current table; null without one. */
  readonly table: (() => Float32Array) | null;
  /** The step's graph for a batch and its input tensors; null for an eager step. */
  readonly graphFor: (batchIndex: number) => StepGraph | null;
  readonly dispose: () => void;
}

interface StepGraph {
  readonly graph: Graph;
  readonly feeds: readonly tfjs.Tensor[];
  readonly statistics: CaptureStatistics;
}

/** 64 tasks of W2: the activations of a layer take a megabyte. */
const MICRO_BATCHES_MIN = 4;
const SHAPE_COUNT_MAX = 8;

export function createOurMetaStep(
  engine: Engine,
  arrays: WorkloadArrays,
  cell: Cell,
  variant: OurVariant,
): OurMetaStep {
  const { description } = arrays;
  const shape = description.workloads[cell.workload];
  const terms: StepTerms = {
    ...{ engine, shape, cell },
    innerRate: description.innerRate,
    metaRate: description.metaRate / shape.taskCount,
  };
  return shape.table === null
    ? denseStep(terms, arrays, variant)
    : tableStep(terms, arrays, variant, shape.table);
}

function denseStep(terms: StepTerms, arrays: WorkloadArrays, variant: OurVariant): OurMetaStep {
  const { engine } = terms;
  const batches = batchesOf(terms, arrays, (name, rowShape) =>
    engine.tf.tensor(arrays.floats(`${name}Inputs`), rowShape),
  );
  let layers = initialLayers(terms, arrays);
  const compute = denseMetaStep(terms);
  const step = runnerOf(engine, terms.cell, variant, compute);
  const inputOf = (batchIndex: number): DenseInput => {
    const { support, query, supportLabels, queryLabels } = at(batches, batchIndex);
    return { supportInputs: support, queryInputs: query, supportLabels, queryLabels, layers };
  };
  return {
    run: (batchIndex) => {
      const next = step.run(inputOf(batchIndex));
      engine.tf.dispose([...layers]);
      layers = next;
    },
    layers: () => layers.map((layer) => layer.dataSync<'float32'>()),
    table: null,
    graphFor: (batchIndex) => stepGraph(terms, variant, compute, inputOf(batchIndex)),
    dispose: () => step.dispose(),
  };
}

/**
 * Tasks are processed in micro-batches small enough for the caches. Rows are gathered for all of
 * them at once, while nothing else needs the cache. Changes are summed over micro-batches and
 * subtracted once, when all gradients are complete.
 */
function tableStep(
  whole: StepTerms,
  arrays: WorkloadArrays,
  variant: OurVariant,
  { rowCount, width }: { readonly rowCount: number; readonly width: number },
): OurMetaStep {
  const { engine, cell } = whole;
  const { tf } = engine;
  const taskCount = microBatchTasks(whole.shape.taskCount);
  const count = whole.shape.taskCount / taskCount;
  const terms: StepTerms = { ...whole, shape: { ...whole.shape, taskCount } };
  const table = createRowTable(engine, arrays.floats(`${cell.workload}.table`), width);
  const batches = batchesOf(whole, arrays, (name) => arrays.integers(`${name}Ids`));
  const labels = batches.map(({ supportLabels, queryLabels }) => ({
    support: tf.split(supportLabels, count),
    query: tf.split(queryLabels, count),
  }));
  const grouping = createGrouping(rowCount);
  let layers = initialLayers(whole, arrays);
  const noChanges = layers.map((layer) => tf.zerosLike(layer));
  const compute = tableMetaStep(terms);
  const step = runnerOf(engine, cell, variant, compute);
  const prepared = (batchIndex: number): Prepared => {
    const { support, query } = at(batches, batchIndex);
    // Rows that only support rows touch do not change in first order: they are only read.
    const isFirstOrder = cell.order === 'first';
    const changed = grouping(isFirstOrder ? [query] : [query, support]);
    const changedRows = table.gather(changed.ids);
    const occurring = tf.tidy(() =>
      tf.split(
        engine.kernels.gatherRows(changedRows, tf.tensor1d(changed.places, 'int32')),
        isFirstOrder ? count : 2 * count,
      ),
    );
    const supportRows = isFirstOrder
      ? tf.tidy(() => tf.split(table.gather(support), count))
      : occurring.slice(count);
    const ownLabels = at(labels, batchIndex);
    return {
      changed,
      changedRows,
      inputs: supportRows.map((rows, index) => ({
        supportRows: rows,
        queryRows: at(occurring, index),
        supportLabels: at(ownLabels.support, index),
        queryLabels: at(ownLabels.query, index),
        layers,
      })),
    };
  };
  return {
    run: (batchIndex) => {
      const { inputs, changed, changedRows } = prepared(batchIndex);
      let layerChanges: Layers = noChanges;
      const rowChanges: (readonly tfjs.Tensor[])[] = [];
      for (const input of inputs) {
        const changes = step.run({ ...input, layerChanges });
        rowChanges.push(changes.rows);
        tf.dispose([input.queryRows, input.supportRows]);
        if (layerChanges !== noChanges) tf.dispose([...layerChanges]);
        layerChanges = changes.layers;
      }
      // All query rows, then all support rows, in the order of their ids.
      const byRole = [0, 1].flatMap((role) => rowChanges.flatMap((rows) => rows[role] ?? []));
      table.subtract(changed, changedRows, byRole);
      const next = stepped(engine, layers, layerChanges);
      tf.dispose([...byRole, ...layerChanges, ...layers, changedRows]);
      layers = next;
    },
    layers: () => layers.map((layer) => layer.dataSync<'float32'>()),
    table: table.values,
    graphFor: (batchIndex) => {
      const input = at(prepared(batchIndex).inputs, 0);
      return stepGraph(terms, variant, compute, { ...input, layerChanges: noChanges });
    },
    dispose: () => {
      step.dispose();
      table.dispose();
    },
  };
}

interface Prepared {
  /** One for each micro-batch; the caller disposes of their rows. */
  readonly inputs: readonly Omit<TableInput, 'layerChanges'>[];
  readonly changed: Occurrences;
  /** The rows of `changed.ids` before the step. */
  readonly changedRows: tfjs.Tensor2D;
}

/** The largest task count that divides the tasks evenly into eight or more micro-batches. */
function microBatchTasks(taskCount: number): number {
  let count = Math.max(1, Math.floor(taskCount / MICRO_BATCHES_MIN));
  while (taskCount % count !== 0) count -= 1;
  return count;
}

function stepGraph<In extends TensorStructure>(
  { engine }: StepTerms,
  variant: OurVariant,
  compute: (input: In) => TensorStructure,
  input: In,
): StepGraph | null {
  if (variant === 'eager') return null;
  const captured = capture(engine, compute, input, {
    name: 'profile',
    rewrites: variant.startsWith('rewritten'),
  });
  captured.dispose();
  const { graph, statistics } = captured;
  const feeds = leavesOf(input).map(({ tensor }) => tensor);
  return graph === null ? null : { graph, feeds, statistics };
}

/** A function of tensors as the variant runs it. */
function runnerOf<In extends TensorStructure, Out extends TensorStructure>(
  engine: Engine,
  { workload, order, innerSteps }: Cell,
  variant: OurVariant,
  compute: (input: In) => Out,
): { readonly run: (input: In) => Out; readonly dispose: () => void } {
  if (variant === 'eager')
    // The result is a structure of tensors, which `tidy` keeps.
    return {
      run: (input) => engine.tf.tidy(() => compute(input) as never),
      dispose: () => undefined,
    };
  return captureByShape(engine, compute, {
    name: `${workload}-${order}-${innerSteps}`,
    rewrites: variant.startsWith('rewritten'),
    shapeCountMax: SHAPE_COUNT_MAX,
  });
}

interface Batch<Features> {
  readonly support: Features;
  readonly query: Features;
  readonly supportLabels: tfjs.Tensor;
  readonly queryLabels: tfjs.Tensor;
}

function batchesOf<Features>(
  { engine, shape, cell }: StepTerms,
  arrays: WorkloadArrays,
  featuresOf: (name: string, rowShape: number[]) => Features,
): Batch<Features>[] {
  const { taskCount, rowsPerTask, widths } = shape;
  const rowShape = [taskCount, rowsPerTask, widths[0] ?? 0];
  return Array.from({ length: arrays.description.batchCount }, (_, batch) => {
    const prefix = `${cell.workload}.batch${batch}`;
    const labels = (role: string): tfjs.Tensor =>
      engine.tf.tensor2d(arrays.floats(`${prefix}.${role}Labels`), [taskCount, rowsPerTask]);
    return {
      support: featuresOf(`${prefix}.support`, rowShape),
      query: featuresOf(`${prefix}.query`, rowShape),
      supportLabels: labels('support'),
      queryLabels: labels('query'),
    };
  });
}

function initialLayers({ engine, shape, cell }: StepTerms, arrays: WorkloadArrays): Layers {
  const { tf } = engine;
  return shape.widths.slice(1).flatMap((outputs, layer) => {
    const inputs = shape.widths[layer] ?? 0;
    return [
      tf.tensor2d(arrays.floats(`${cell.workload}.weight${layer}`), [inputs, outputs]),
      tf.tensor2d(arrays.floats(`${cell.workload}.bias${layer}`), [1, outputs]),
    ];
  });
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index % items.length];
  if (item === undefined) throw new Error('there are no batches');
  return item;
}
