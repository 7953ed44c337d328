/**
 * The meta steps of the workloads in plain TensorFlow.js, written like a method: inner steps by
 * taped gradients, personal blocks with a leading task axis, and rates as factors of the losses.
 *
 *   first order   theta <- theta - metaRate * sum_i grad L(phi_i ; Q_i)      (towards phi_i)
 *   second order  theta <- theta - metaRate * sum_i grad L(phi_i(theta) ; Q_i)
 *
 * with phi_i = theta after innerSteps steps on S_i.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import { taskLosses } from '../../../../worker/compute/models/lean-operations.js';
import type { Cell } from './cells.js';
import type { WorkloadShape } from './workload-data.js';

type Tensor = tfjs.Tensor;

/** Alternating weights and biases, from the first layer up: `[in, out]`, `[1, out]`, ... */
export type Layers = readonly Tensor[];

export interface StepTerms {
  readonly engine: Engine;
  readonly shape: WorkloadShape;
  readonly cell: Cell;
  readonly innerRate: number;
  /** Already divided by the number of tasks. */
  readonly metaRate: number;
}

// Types instead of interfaces, because only types are accepted as records of tensors.
export type DenseInput = {
  /** `[taskCount, rowsPerTask, width]` */
  readonly supportInputs: Tensor;
  /** `[taskCount, rowsPerTask]` */
  readonly supportLabels: Tensor;
  readonly queryInputs: Tensor;
  readonly queryLabels: Tensor;
  readonly layers: Layers;
};

export type TableInput = {
  /** A table row for each row of the task and field, `[.., tableWidth]`. */
  readonly supportRows: Tensor;
  readonly queryRows: Tensor;
  /** `[taskCount, rowsPerTask]` */
  readonly supportLabels: Tensor;
  readonly queryLabels: Tensor;
  readonly layers: Layers;
  /** Changes of the layers, summed over the earlier micro-batches. */
  readonly layerChanges: Layers;
};

type TableChanges = {
  /** The amounts to subtract from the query rows and, in second order, from the support rows. */
  readonly rows: readonly Tensor[];
  /** The amounts to subtract from the layers, including this micro-batch. */
  readonly layers: Layers;
};

/** W1: everything is adapted. Returns the layers after the step. */
export function denseMetaStep(terms: StepTerms): (input: DenseInput) => Layers {
  return ({ supportInputs, supportLabels, queryInputs, queryLabels, layers }) => {
    const moved = metaGradient(terms, layers, {
      supportLabels,
      queryLabels,
      supportFeatures: () => supportInputs,
      queryFeatures: () => queryInputs,
      shared: [],
    });
    return stepped(terms.engine, layers, moved);
  };
}

/** W2: rows and first layers are trunk. */
export function tableMetaStep(terms: StepTerms): (input: TableInput) => TableChanges {
  const { tf } = terms.engine;
  const { shape, cell } = terms;
  const trunkSize = 2 * shape.trunkLayerCount;
  return ({ supportRows, queryRows, supportLabels, queryLabels, layers, layerChanges }) => {
    // Rows that only feed support features have no gradient in first order.
    const tableRows = cell.order === 'first' ? [queryRows] : [queryRows, supportRows];
    const moved = metaGradient(terms, layers.slice(trunkSize), {
      supportLabels,
      queryLabels,
      supportFeatures: (shared) =>
        trunkFeatures(
          terms,
          cell.order === 'first' ? supportRows : (shared[1] as Tensor),
          shared.slice(tableRows.length),
        ),
      queryFeatures: (shared) =>
        trunkFeatures(terms, shared[0] as Tensor, shared.slice(tableRows.length)),
      shared: [...tableRows, ...layers.slice(0, trunkSize)],
    });
    return {
      rows: moved.slice(0, tableRows.length),
      layers: moved
        .slice(tableRows.length)
        .map((change, index) => tf.add(layerChanges[index] as Tensor, change)),
    };
  };
}

interface Problem {
  readonly supportLabels: Tensor;
  readonly queryLabels: Tensor;
  /**
   * The inputs of the adapted layers, `[taskCount, rowsPerTask, width]`, from the shared tensors.
   */
  readonly supportFeatures: (shared: readonly Tensor[]) => Tensor;
  readonly queryFeatures: (shared: readonly Tensor[]) => Tensor;
  readonly shared: readonly Tensor[];
}

/**
 * metaRate times the meta-gradient with respect to the shared tensors and then the adapted layers.
 */
function metaGradient(terms: StepTerms, personal: Layers, problem: Problem): Tensor[] {
  const { engine, shape, cell, metaRate } = terms;
  const { tf } = engine;
  const { shared } = problem;
  const rates = tf.fill<tfjs.Rank.R1>([shape.taskCount], metaRate);
  const query = lossesOn(terms, problem.queryLabels);
  const adapt = adaptationOn(terms, problem.supportLabels);
  const repeated = (blocks: Layers): Tensor[] =>
    blocks.map((block) => repeatByTask(engine, block, shape.taskCount));
  if (cell.order === 'first') {
    const phi = adapt(problem.supportFeatures(shared), repeated(personal));
    const { grads } = tf.valueAndGrads((...tensors: Tensor[]) =>
      query(problem.queryFeatures(tensors.slice(0, shared.length)), tensors.slice(shared.length)),
    )([...shared, ...phi], rates);
    return grads.map((gradient, index) => (index < shared.length ? gradient : tf.sum(gradient, 0)));
  }
  const { grads } = tf.valueAndGrads((...tensors: Tensor[]) => {
    const own = tensors.slice(0, shared.length);
    const start = repeated(tensors.slice(shared.length));
    return query(problem.queryFeatures(own), adapt(problem.supportFeatures(own), start));
  })([...shared, ...personal], rates);
  return grads;
}

/** The inner loop on given labels, starting from blocks of `[taskCount, in, out]`. */
export function adaptationOn(
  terms: StepTerms,
  supportLabels: Tensor,
): (features: Tensor, start: Layers) => Layers {
  const { engine, shape, cell, innerRate } = terms;
  const { tf } = engine;
  const rates = tf.fill<tfjs.Rank.R1>([shape.taskCount], innerRate);
  const losses = lossesOn(terms, supportLabels);
  return (features, start) => {
    let phi = start;
    for (let step = 0; step < cell.innerSteps; step += 1) {
      const { grads } = tf.valueAndGrads((...blocks: Tensor[]) => losses(features, blocks))(
        [...phi],
        rates,
      );
      phi = stepped(engine, phi, grads);
    }
    return phi;
  };
}

/** Mean cross entropy of each task, `[taskCount]`, on labels `[taskCount, rowsPerTask]`. */
function lossesOn(
  { engine, shape }: StepTerms,
  labels: Tensor,
): (features: Tensor, blocks: Layers) => tfjs.Tensor1D {
  const { tf } = engine;
  const { taskCount, rowsPerTask } = shape;
  // Created here, not in the function below: a tape disposes of tensors created while it runs.
  const shares = tf.fill<tfjs.Rank.R2>([taskCount, rowsPerTask], 1 / rowsPerTask);
  const clickShares = tf.mul<tfjs.Tensor2D>(labels, 1 / rowsPerTask);
  return (features, blocks) => {
    const outputs = denseLayers(engine, features, blocks, false);
    const logits = tf.reshape<tfjs.Rank.R2>(outputs, [taskCount, rowsPerTask]);
    return taskLosses(engine, logits, { impressionShares: shares, clickShares });
  };
}

/** Table rows after the first layers: `[taskCount, rowsPerTask, width]`. */
export function trunkFeatures({ engine, shape }: StepTerms, rows: Tensor, weights: Layers): Tensor {
  const { tf } = engine;
  const { taskCount, rowsPerTask, widths, trunkLayerCount } = shape;
  const inputs = tf.reshape(rows, [taskCount * rowsPerTask, widths[0] ?? 0]);
  const hidden = denseLayers(engine, inputs, weights, true);
  return tf.reshape(hidden, [taskCount, rowsPerTask, widths[trunkLayerCount] ?? 0]);
}

function denseLayers(
  { tf, kernels }: Engine,
  inputs: Tensor,
  layers: Layers,
  endsInRelu: boolean,
): Tensor {
  let x = inputs;
  for (let index = 0; index < layers.length; index += 2) {
    // Weights and biases come in pairs.
    x = tf.add(tf.matMul(x, layers[index] as Tensor), layers[index + 1] as Tensor);
    if (endsInRelu || index + 2 < layers.length) x = kernels.relu(x);
  }
  return x;
}

/** A shared block repeated per task, `[taskCount, in, out]`; its gradient is one sum over tasks. */
export function repeatByTask({ tf }: Engine, block: Tensor, taskCount: number): Tensor {
  return tf.customGrad((input) => ({
    value: tf.tile(tf.expandDims(input as Tensor, 0), [taskCount, 1, 1]),
    gradFunc: (dy) => tf.sum(dy, 0),
  }))(block);
}

export function stepped({ tf }: Engine, layers: Layers, changes: readonly Tensor[]): Tensor[] {
  return layers.map((layer, index) => {
    const change = changes[index];
    if (change === undefined) throw new Error('a layer has no gradient');
    return tf.sub(layer, change);
  });
}
