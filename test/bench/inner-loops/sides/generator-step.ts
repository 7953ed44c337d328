/**
 * A generator step in the manner of Meta-Embedding (Pan et al., SIGIR 2019): an embedding made from
 * an adgroup's attributes, judged cold and after one inner step on other rows,
 *
 *   e_i = tanh(W a_i) / 5        e_i' = e_i - innerRate * grad L(e_i ; A_i)
 *   W  <- W - metaRate * sum_i grad (c L(e_i ; A_i) + (1 - c) L(e_i' ; B_i))
 *
 * on a frozen DeepFM. It is written independently of the project's own method.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { randomStream } from '../../../../shared/base/random.js';
import { captureByShape } from '../../../../worker/compute/engine/capture/capture-by-shape.js';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import { taskLosses } from '../../../../worker/compute/models/lean-operations.js';

interface GeneratorStep {
  readonly taskCount: number;
  readonly run: () => void;
  readonly dispose: () => void;
}

const TASK_COUNT = 128;
const ROWS_PER_TASK = 20;
const WIDTH = 128;
const ATTRIBUTE_FIELD_COUNT = 3;
/** Number of fields in addition to the generated embedding. */
const FIELD_COUNT = 7;
const HIDDEN_WIDTHS = [128, 128];
const INNER_RATE = 0.001;
const META_RATE = 0.001;
const COLD_SHARE = 0.1;

interface Frozen {
  readonly weights: readonly tfjs.Tensor[];
  /** Weights of the factors `[WIDTH, 1]` and of the last hidden layer. */
  readonly factorWeight: tfjs.Tensor;
}

export function createGeneratorStep(engine: Engine): GeneratorStep {
  const { tf, kernels } = engine;
  const stream = randomStream(1, 'generator step');
  const normal = (shape: number[], deviation: number): tfjs.Tensor => {
    const size = shape.reduce((product, extent) => product * extent, 1);
    return tf.tensor(
      Float32Array.from({ length: size }, () => deviation * stream.normal()),
      shape,
    );
  };
  const widths = [(FIELD_COUNT + 1) * WIDTH, ...HIDDEN_WIDTHS, 1];
  const frozen: Frozen = {
    weights: widths
      .slice(1)
      .map((outputs, layer) =>
        normal([widths[layer] ?? 0, outputs], Math.sqrt(2 / (widths[layer] ?? 1))),
      ),
    factorWeight: normal([WIDTH, 1], 0.1),
  };
  const shares = tf.fill<tfjs.Rank.R2>([TASK_COUNT, ROWS_PER_TASK], 1 / ROWS_PER_TASK);
  const rates = tf.fill<tfjs.Rank.R1>([TASK_COUNT], INNER_RATE);

  /**
   * Losses `[TASK_COUNT]` of embeddings `[TASK_COUNT, WIDTH]` together with fields of other values.
   */
  const lossesOf = (
    embeddings: tfjs.Tensor,
    fields: tfjs.Tensor,
    clickShares: tfjs.Tensor2D,
  ): tfjs.Tensor1D => {
    const rowCount = TASK_COUNT * ROWS_PER_TASK;
    const own = tf.mul(
      tf.reshape(embeddings, [TASK_COUNT, 1, WIDTH]),
      tf.ones([TASK_COUNT, ROWS_PER_TASK, 1]),
    );
    const ownRows = tf.reshape(own, [rowCount, WIDTH]);
    const others = tf.reshape(fields, [rowCount, FIELD_COUNT * WIDTH]);
    const otherSum = tf.sum(tf.reshape(fields, [rowCount, FIELD_COUNT, WIDTH]), 1);
    const factors = tf.matMul(tf.mul(ownRows, otherSum), frozen.factorWeight);
    let hidden: tfjs.Tensor = tf.concat([ownRows, others], 1);
    for (const [layer, weight] of frozen.weights.entries()) {
      hidden = tf.matMul(hidden, weight);
      if (layer + 1 < frozen.weights.length) hidden = kernels.relu(hidden);
    }
    const logits = tf.reshape<tfjs.Rank.R2>(tf.add(hidden, factors), [TASK_COUNT, ROWS_PER_TASK]);
    return taskLosses(engine, logits, { impressionShares: shares, clickShares });
  };

  type StepInput = Record<
    'weight' | 'attributes' | 'coldFields' | 'coldLabels' | 'warmFields' | 'warmLabels',
    tfjs.Tensor
  >;
  const compute = (input: StepInput): { weight: tfjs.Tensor } => {
    const { weight, attributes, coldFields, warmFields } = input;
    const coldShares = tf.mul<tfjs.Tensor2D>(input.coldLabels, 1 / ROWS_PER_TASK);
    const warmShares = tf.mul<tfjs.Tensor2D>(input.warmLabels, 1 / ROWS_PER_TASK);
    const metaRates = tf.fill<tfjs.Rank.R1>([TASK_COUNT], META_RATE / TASK_COUNT);
    const { grads } = tf.valueAndGrads((generator: tfjs.Tensor) => {
      const embeddings = tf.div(tf.tanh(tf.matMul(attributes, generator)), 5);
      const inner = tf.valueAndGrads((own: tfjs.Tensor) => lossesOf(own, coldFields, coldShares))(
        [embeddings],
        rates,
      );
      const [change] = inner.grads;
      if (change === undefined) throw new Error('an embedding has a gradient');
      const warm = lossesOf(tf.sub(embeddings, change), warmFields, warmShares);
      return tf.add(tf.mul(inner.value, COLD_SHARE), tf.mul(warm, 1 - COLD_SHARE));
    })([weight], metaRates);
    const [change] = grads;
    if (change === undefined) throw new Error('the generator has a gradient');
    return { weight: tf.sub(weight, change) };
  };

  const attributeWidth = ATTRIBUTE_FIELD_COUNT * WIDTH;
  const labels = (): tfjs.Tensor =>
    tf.tensor2d(
      Float32Array.from({ length: TASK_COUNT * ROWS_PER_TASK }, () => stream.below(2)),
      [TASK_COUNT, ROWS_PER_TASK],
    );
  const fieldsShape = [TASK_COUNT, ROWS_PER_TASK, FIELD_COUNT * WIDTH];
  const given = {
    attributes: normal([TASK_COUNT, attributeWidth], 0.1),
    coldFields: normal(fieldsShape, 0.1),
    coldLabels: labels(),
    warmFields: normal(fieldsShape, 0.1),
    warmLabels: labels(),
  };
  let weight = normal([attributeWidth, WIDTH], Math.sqrt(2 / (attributeWidth + WIDTH)));
  const step = captureByShape(engine, compute, { name: 'generator step', shapeCountMax: 1 });
  return {
    taskCount: TASK_COUNT,
    run: () => {
      const next = step.run({ ...given, weight }).weight;
      weight.dispose();
      weight = next;
    },
    dispose: () => step.dispose(),
  };
}
