/**
 * The vector-Jacobian product of a function with several results. The library's own gradients support
 * one result and refuse inputs that it does not depend on.
 */

import type * as tfjs from '@tensorflow/tfjs';

interface PulledBack {
  /** Not connected to the inputs. The caller owns them, as it owns the gradients. */
  readonly results: tfjs.Tensor[];
  /** By index of the input; null if no weighted result depends on it. */
  readonly gradients: (tfjs.Tensor | null)[];
}

/**
 * @param compute a function of the inputs, which it closes over; it may itself take gradients.
 * @param weights one for each result, of its shape; null if only the value of the result is needed.
 */
export function pullBack(
  tf: typeof tfjs,
  compute: () => readonly tfjs.Tensor[],
  inputs: readonly tfjs.Tensor[],
  weights: readonly (tfjs.Tensor | null)[],
): PulledBack {
  if (inputs.length === 0)
    return { results: compute().map((result) => tf.clone(result)), gradients: [] };
  const kept: tfjs.Tensor[] = [];
  try {
    const weighted = (): tfjs.Tensor => {
      const results = compute();
      // Copies share the memory. A result may be an input, which the caller owns.
      for (const result of results) kept.push(tf.keep(tf.clone(result)));
      const pairs = results.flatMap((result, place): [tfjs.Tensor, tfjs.Tensor][] => {
        const weight = weights[place] ?? null;
        return weight === null ? [] : [[result, weight]];
      });
      return seed(tf, pairs);
    };
    const { grads } = tf.engine().gradients(weighted, [...inputs], undefined, true);
    return {
      results: kept.map((result) => tf.clone(result)),
      // Typed as if every input had one.
      gradients: inputs.map((_, place) => (grads as (tfjs.Tensor | undefined)[])[place] ?? null),
    };
  } finally {
    tf.dispose(kept);
  }
}

/** An unused scalar whose gradient with respect to each result is that result's weight. */
function seed(
  tf: typeof tfjs,
  pairs: readonly (readonly [result: tfjs.Tensor, weight: tfjs.Tensor])[],
): tfjs.Tensor {
  return tf.customGrad(() => ({
    value: tf.scalar(0),
    gradFunc: () => pairs.map(([, weight]) => tf.clone(weight)),
  }))(...pairs.map(([result]) => result));
}
