/**
 * One whole meta step of a workload on our side: batches stay on the device, layers go from step to
 * step as tensors, and of the embedding table a step takes the rows it touches and returns their
 * change.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { captureByShape } from '../../../worker/compute/engine/capture/capture-by-shape.js';
import {
  capture,
  type CaptureStatistics,
  type TensorStructure,
} from '../../../worker/compute/engine/capture/capture.js';
import type { Graph } from '../../../worker/compute/engine/capture/graph.js';
import { leavesOf } from '../../../worker/compute/engine/capture/tensor-structure.js';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import type { Cell } from './cells.js';
import {
  denseMetaStep,
  tableMetaStep,
  type DenseInput,
  type Layers,
  type StepTerms,
  type TableInput,
} from './meta-step-graphs.js';
import { createHostTable, createNativeTable, createPlacer } from './row-table.js';
import type { WorkloadArrays } from './workload-data.js';

/** All but the last keep the embedding table in the native library. */
export const OUR_VARIANTS = ['eager', 'captured', 'rewritten', 'rewritten-host-table'] as const;
export type OurVariant = (typeof OUR_VARIANTS)[number];

export interface OurMetaStep {
  /** Does a meta step on a batch. */
  readonly run: (batchIndex: number) => void;
  /** The layers as they are, weights and biases in turn. */
  readonly layers: () => Float32Array[];
  /** The table as it is; null without one. */
  readonly table: (() => Float32Array) | null;
  /** The step's graph for a batch and the tensors it is fed with; null of an eager step. */
  readonly graphFor: (batchIndex: number) => StepGraph | null;
  readonly dispose: () => void;
}

export interface StepGraph {
  readonly graph: Graph;
  readonly feeds: readonly tfjs.Tensor[];
  readonly statistics: CaptureStatistics;
}

/** Packs of rows are padded to a multiple of this, so that few shapes have to be captured. */
const PACK_ROWS_STEP = 4096;
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

function tableStep(
  terms: StepTerms,
  arrays: WorkloadArrays,
  variant: OurVariant,
  { rowCount, width }: { readonly rowCount: number; readonly width: number },
): OurMetaStep {
  const { engine } = terms;
  const { tf } = engine;
  const values = arrays.floats(`${terms.cell.workload}.table`);
  const createTable = variant.endsWith('host-table') ? createHostTable : createNativeTable;
  const table = createTable(engine, values, width);
  const placesOf = createPlacer(rowCount, PACK_ROWS_STEP);
  const batches = batchesOf(terms, arrays, (name) => arrays.integers(`${name}Ids`));
  let layers = initialLayers(terms, arrays);
  const compute = tableMetaStep(terms);
  const step = runnerOf(engine, terms.cell, variant, compute);
  const placed = (batchIndex: number): { input: TableInput; uniqueCount: number } => {
    const { support, query, supportLabels, queryLabels } = at(batches, batchIndex);
    const isFirstOrder = terms.cell.order === 'first';
    // Rows that only support rows touch have no gradient in first order: a pack of their own.
    const supportPack = isFirstOrder ? placesOf([support]) : null;
    const pack = placesOf(isFirstOrder ? [query] : [query, support]);
    const [queryPlaces, sharedSupportPlaces] = pack.places;
    const supportPlaces = supportPack?.places[0] ?? sharedSupportPlaces;
    if (queryPlaces === undefined || supportPlaces === undefined)
      throw new Error('two in, two out');
    const input = {
      supportRows: supportPack === null ? [] : [table.gather(supportPack.ids)],
      rows: table.gather(pack.ids),
      supportPlaces: tf.tensor1d(supportPlaces, 'int32'),
      queryPlaces: tf.tensor1d(queryPlaces, 'int32'),
      ...{ supportLabels, queryLabels, layers },
    };
    return { input, uniqueCount: pack.uniqueCount };
  };
  return {
    run: (batchIndex) => {
      const { input, uniqueCount } = placed(batchIndex);
      const { rowChange, layers: next } = step.run(input);
      table.subtract(rowChange, uniqueCount);
      tf.dispose([
        rowChange,
        input.rows,
        ...input.supportRows,
        input.supportPlaces,
        input.queryPlaces,
        ...layers,
      ]);
      layers = next;
    },
    layers: () => layers.map((layer) => layer.dataSync<'float32'>()),
    table: table.values,
    graphFor: (batchIndex) => stepGraph(terms, variant, compute, placed(batchIndex).input),
    dispose: () => {
      step.dispose();
      table.dispose();
    },
  };
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
