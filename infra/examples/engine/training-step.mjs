/**
 * One captured training step: the loss of a small network, its gradients and the updated weights
 * run as a single native graph.
 *
 *   node infra/examples/engine/training-step.mjs
 */

import { capture, loadEngine } from 'qianmo/engine';

const ROWS = 256;
const WIDTH = 32;
const RATE = 0.1;
const STEPS = 200;

const { tf, description } = await loadEngine('auto', ({ cure }) => console.error(cure));

/** A pure function of its inputs: tensors in, tensors out, and no assignments in between. */
function trainingStep({ weights, x, y }) {
  const loss = (hidden, output) => {
    const logits = tf.matMul(tf.relu(tf.matMul(x, hidden)), output);
    return tf.mean(tf.sub(tf.softplus(logits), tf.mul(y, logits)));
  };
  const { value, grads } = tf.valueAndGrads(loss)(weights);
  return { loss: value, weights: weights.map((w, i) => tf.sub(w, tf.mul(grads[i], RATE))) };
}

const x = tf.randomNormal([ROWS, WIDTH], 0, 1, 'float32', 7);
const y = tf.cast(tf.greater(tf.sum(x, 1, true), 0), 'float32');
const start = [
  tf.randomNormal([WIDTH, 64], 0, 0.25, 'float32', 1),
  tf.randomNormal([64, 1], 0, 0.125, 'float32', 2),
];

/** @returns the loss of the last step and the time per step, excluding the first ones. */
function trained(step) {
  let weights = start;
  let loss = 0;
  let began = 0;
  for (let index = 0; index < STEPS; index += 1) {
    if (index === STEPS / 2) began = process.hrtime.bigint();
    const after = step({ weights, x, y });
    [loss] = after.loss.dataSync();
    if (weights !== start) tf.dispose(weights);
    tf.dispose(after.loss);
    weights = after.weights;
  }
  const ms = Number(process.hrtime.bigint() - began) / 1e6 / (STEPS / 2);
  tf.dispose(weights);
  return { loss, ms };
}

const captured = capture({ tf }, trainingStep, { weights: start, x, y }, { name: 'training step' });
const eager = trained((input) => tf.tidy(() => trainingStep(input)));
const graph = trained((input) => captured.run(input));

console.log(`computes with ${description}`);
console.log(`${captured.statistics.nodeCount} nodes in one graph`);
console.log(`eager:    loss ${eager.loss.toFixed(5)}, ${eager.ms.toFixed(3)} ms per step`);
console.log(`captured: loss ${graph.loss.toFixed(5)}, ${graph.ms.toFixed(3)} ms per step`);
captured.dispose();
