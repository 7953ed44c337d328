/**
 * The models. A new one is an entry of this file: its terms are all that training, scoring and conversion
 * to ONNX need.
 *
 * Fields f have vectors e_f: the row of a category, the mean of a bag's members, x times a vector for a
 * number x. `linear(x)` sums the linear weights of a row's ids, and of its numbers times theirs.
 */

import { z } from 'zod';
import { KindRegistry } from '../../names/kind-registry.js';
import { defineModel, type ModelDefinition, type Products } from './model-definition.js';
import { FIELD_OPTIONS, type ModelOptions } from './model-options.js';

type Interactions = ModelOptions['interactions'];

const { factorisedFields, interactions, wideFields } = FIELD_OPTIONS;

/** Logistic regression: logit = bias + linear(x) */
const logistic = defineModel({
  kind: 'logistic',
  options: {},
  linear: 'always',
  linearAdvice: 'logistic is nothing but linear weights',
  hasFactors: false,
  hasHiddenLayers: false,
  terms: () => ({}),
});

/**
 * Factorisation machine (Rendle, ICDM 2010):
 *
 *   logit = bias + linear(x) + sum_{f < g} <e_f, e_g>
 *         = bias + linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2)
 *
 * With `interactions: by-field` the output layer weighs one number per field, as in the code published
 * with Pan et al. (SIGIR 2019):
 *
 *   x_f = <e_f, S - e_f>, S = sum_g e_g        logit = bias + linear(x) + output(x)
 */
const fm = defineModel({
  kind: 'fm',
  options: { factorisedFields, interactions },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  terms: (options) =>
    options.interactions === 'by-field' ? { weighed: { inner: 'by-field' } } : { hasPairSum: true },
});

/**
 * Field-weighted factorisation machine (Pan, Xu, Ruiz, Zhao, Pan, Sun and Lu, WWW 2018):
 *
 *   logit = bias + linear(x) + sum_{f < g} r_fg <e_f, e_g>
 *
 * The weights r are the output layer, so an adgroup may have its own.
 */
const fwfm = defineModel({
  kind: 'fwfm',
  options: { factorisedFields },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  terms: () => ({ weighed: { inner: 'pairs' } }),
});

/**
 * DeepFM (Guo et al., IJCAI 2017): a factorisation machine and a tower over the same embeddings,
 *
 *   logit = bias + linear(x) + sum_{f < g} <e_f, e_g> + output(layers(e))
 *
 * With `interactions: by-field` the output layer weighs the machine's numbers per field next to the last
 * hidden layer: logit = bias + linear(x) + output([layers(e) ; x])
 */
const deepfm = defineModel({
  kind: 'deepfm',
  options: { factorisedFields, interactions },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: true,
  terms: (options) => ({
    tower: { over: 'fields' },
    ...(options.interactions === 'by-field'
      ? { weighed: { inner: 'by-field' } }
      : { hasPairSum: true }),
  }),
});

/** A tower over the embeddings and nothing else: logit = bias + output(layers(e)) */
const mlp = defineModel({
  kind: 'mlp',
  options: {},
  linear: 'never',
  linearAdvice: 'mlp with linear weights is wide-deep: set kind: wide-deep',
  hasFactors: true,
  hasHiddenLayers: true,
  terms: () => ({ tower: { over: 'fields' } }),
});

/**
 * Wide & Deep (Cheng et al., DLRS 2016): linear weights, also of crossed features, and a tower over the
 * embeddings, trained together:
 *
 *   logit = bias + linear(x, crosses(x)) + output(layers(e))
 *
 * A cross is a category feature whose expression joins two columns; named in `wideFields` it has a
 * linear weight and no part in the tower.
 */
const wideDeep = defineModel({
  kind: 'wide-deep',
  options: { wideFields },
  linear: 'always',
  linearAdvice: 'wide-deep without linear weights is mlp: set kind: mlp',
  hasFactors: true,
  hasHiddenLayers: true,
  terms: () => ({ tower: { over: 'fields' } }),
});

/**
 * Product-based networks (Qu et al., ICDM 2016; TOIS 2018): products of field vectors enter the
 * first layer of the tower next to the vectors themselves,
 *
 *   logit = bias + output(layers([z ; p])),   z = (e_1, ..., e_n)
 *   ipnn:  p = (<e_f, e_g>)_{f < g}                            one number per pair of fields
 *   opnn:  p = (sum_f e_f)(sum_f e_f)^T                        pooled over pairs (ICDM 2016)
 *   pnn:   both, inner before outer                            (PNN* of the authors)
 *
 * With `interactions: by-field` the inner products are one number per field, (<e_f, S - e_f>)_f with
 * S = sum_g e_g, as in the code published with Pan et al. (SIGIR 2019). Without hidden layers the output
 * layer takes the place of the first one.
 */
function productNetwork<Own extends z.ZodRawShape>(
  kind: string,
  options: Own,
  productsOf: (interactions: Interactions) => Products,
): ModelDefinition<Own> {
  return defineModel({
    kind,
    options,
    linear: 'on-demand',
    hasFactors: true,
    hasHiddenLayers: true,
    terms: (chosen) => ({ tower: { over: 'fields', products: productsOf(chosen.interactions) } }),
  });
}

const ipnn = productNetwork('ipnn', { factorisedFields, interactions }, (chosen) => ({
  inner: chosen === 'by-field' ? 'by-field' : 'pairs',
}));
const opnn = productNetwork('opnn', { factorisedFields }, () => ({ outer: true }));
const pnn = productNetwork('pnn', { factorisedFields, interactions }, (chosen) => ({
  inner: chosen === 'by-field' ? 'by-field' : 'pairs',
  outer: true,
}));

/**
 * DCN-V2 (Wang et al., WWW 2021): cross layers over the field vectors x_0 = (e_1, ..., e_n),
 *
 *   x_{l+1} = x_0 * (W_l x_l + b_l) + x_l        W_l of full rank, or U_l V_l'
 *
 * and a tower next to them, logit = bias + output([x_L ; layers(x_0)]), or on top of them,
 * logit = bias + output(layers(x_L)). Without hidden layers the output layer reads x_L alone.
 */
const dcnV2 = defineModel({
  kind: 'dcn-v2',
  options: {
    crossLayers: z
      .int()
      .positive()
      .max(16)
      .optional()
      .describe('dcn-v2: number of cross layers (3 by default).'),
    crossRank: z
      .int()
      .positive()
      .max(16384)
      .optional()
      .describe('dcn-v2: rank of the weights of a cross layer; full if absent.'),
    crossTower: z
      .enum(['parallel', 'stacked'])
      .optional()
      .describe('dcn-v2: hidden layers beside the cross layers (default) or on top of them.'),
  },
  linear: 'on-demand',
  hasFactors: true,
  hasHiddenLayers: true,
  misfitsOf: ({ crossTower, hiddenWidths }) =>
    crossTower !== undefined && hiddenWidths.length === 0
      ? [
          {
            path: ['crossTower'],
            message: 'without hidden layers there is no tower: leave crossTower out',
          },
        ]
      : [],
  terms: ({ crossLayers = 3, crossRank: rank, crossTower, hiddenWidths }) => ({
    cross: { layerCount: crossLayers, rank },
    ...(hiddenWidths.length === 0
      ? {}
      : { tower: { over: crossTower === 'stacked' ? 'crossed' : 'fields' } }),
  }),
});

// prettier-ignore
const BUILT_IN = [
  deepfm,
  mlp,
  logistic,
  fm,
  wideDeep,
  ipnn,
  opnn,
  pnn,
  dcnV2,
  fwfm,
] as const;

/** The models that a process knows. */
export const MODELS = new KindRegistry<ModelDefinition>(
  'model',
  BUILT_IN.map((model) => [model.kind, model]),
);

type Intersected<Union> = (Union extends unknown ? (each: Union) => void : never) extends (
  all: infer Both,
) => void
  ? Both
  : never;

/** The options that only some of the built-in models take. */
type OwnOptions = Intersected<(typeof BUILT_IN)[number]['options']>;

/** The options that only some models take, those of plugins included. */
export function ownOptions(): OwnOptions {
  return Object.assign({}, ...MODELS.all().map(({ options }) => options)) as OwnOptions;
}
