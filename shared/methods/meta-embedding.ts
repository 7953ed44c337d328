/**
 * Meta-Embedding (Pan, Li, Ao, Tang and He, SIGIR 2019): a generator makes the ID embedding of a new
 * adgroup from its attributes, on a model that was trained before and stays frozen,
 *
 *   phi_i  = tanh(W a_i) / 5                        a_i: embeddings of the attributes
 *   l_a    = L(phi_i ; S_i)                         cold
 *   l_b    = L(phi_i - innerRate * dl_a/dphi ; Q_i)   after a step
 *   g      = sum_i w_i d/dW (c l_a + (1 - c) l_b)   c = coldShare
 *
 * hence with respect to phi: c g_a + (1 - c) (I - innerRate * H_a) g_b, H_a the Hessian of l_a.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import { GENERATED_BLOCK } from './inner-loop/personal-blocks.js';
import type { Variable } from '../tensors/named-tensors.js';
import type { InnerLoop } from './inner-loop/inner-loop.js';
import { defineMethod, type ModelShape } from './inner-loop/method.js';
import { requireFeatures, timesVariable, variableNamed } from './inner-loop/support-features.js';

const WEIGHT = 'generator.weight';

/** Bounds each element of an embedding to 1 / 5, as in the authors' code. */
const ELEMENTS_PER_UNIT = 5;

export const metaEmbedding = defineMethod({
  settings: z.strictObject({
    kind: z.literal('meta-embedding'),
    attributes: z
      .array(z.string().min(1))
      .min(1)
      .describe('Features that all rows of an adgroup share and that the embedding is made from.'),
    innerSteps: z
      .int()
      .positive()
      .max(100)
      .default(1)
      .describe('Gradient steps of the generated embedding.'),
    innerRate: z.number().positive().max(100).default(1e-4).describe('The rate of these steps.'),
    coldShare: z
      .number()
      .min(0)
      .lt(1)
      .default(0.1)
      .describe('Share of the outer loss that is the loss of the generated embedding itself.'),
  }),
  planOf: ({ attributes, innerSteps, innerRate, coldShare }) => {
    const innerLoop: InnerLoop = {
      steps: { count: innerSteps, rate: innerRate },
      reads: { attributes: true },
      start: (tasks) => {
        const { tf } = tasks;
        const inputs = tasks.attributes(attributes);
        const generated = tf.div(
          tf.tanh(tf.matMul(inputs, tasks.variable(WEIGHT) as typeof inputs)),
          ELEMENTS_PER_UNIT,
        );
        const others = tasks.personal.filter((name) => name !== GENERATED_BLOCK);
        return {
          ...Object.fromEntries(
            others.map((name) => [name, tasks.repeatByTask(tasks.variable(name))]),
          ),
          [GENERATED_BLOCK]: generated,
        };
      },
      attributeStart: {
        attributes,
        blocksOf: (dense, _personal, inputs) => {
          const { shape } = variableNamed(dense, GENERATED_BLOCK);
          const values = Float32Array.from(
            timesVariable(inputs, dense, WEIGHT),
            (sum) => Math.tanh(sum) / ELEMENTS_PER_UNIT,
          );
          return new Map([[GENERATED_BLOCK, { shape, values }]]);
        },
      },
    };
    return {
      innerLoop,
      outer: { kind: 'derivative', order: 'second' },
      cold: coldShare === 0 ? null : { share: coldShare, rows: 'support' },
      learns: 'method',
      variables: (model) => [generatorWeight(model, attributes)],
    };
  },
});

/** Initialised as by Glorot and Bengio, over the widths of input and output. */
function generatorWeight(model: ModelShape, attributes: readonly string[]): Variable {
  requireFeatures(model, attributes, 'method.attributes');
  if (!model.variables.some(({ name }) => name === GENERATED_BLOCK))
    throw new QianmoError({
      kind: 'usage',
      what: 'there is no embedding to generate',
      where: 'model.generated',
      expected: 'the category feature whose embedding new adgroups are given, as in the adgroup id',
      found: 'none',
      cure: 'name it in model.generated',
    });
  const shape = [attributes.length * model.tableRowWidth, model.tableRowWidth] as const;
  const bound = Math.sqrt(6 / (shape[0] + shape[1]));
  return { name: WEIGHT, shape, block: 'method', initial: { kind: 'uniform', bound } };
}
