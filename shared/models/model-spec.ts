/**
 * What a model consists of: its variables, which of them are personal, its embedding tables, and
 * the initial values of all of them. Pure; the forward passes live with the workers.
 *
 * A model here is an embedding + FM + MLP network (DeepFM, Guo et al., IJCAI 2017). Without the FM
 * term and linear weights it is a plain MLP, without factors and layers logistic regression:
 *
 *   logit = bias + linear(x) + FM(fields) + output(layers(fields))
 *
 * Fields, in order: category features, bag features (mean of their members), number features
 * (value times a factor vector), adgroup embedding.
 */

import type { ModelConfig } from '../config/run-config.js';
import { methodVariablesOf, type MethodConfig } from '../methods/methods.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { Initialisation, Variable } from './variable.js';

export interface TableSpec {
  /** The feature whose ids index the rows. */
  readonly name: string;
  readonly rowCount: number;
  readonly initial: Initialisation;
}

export interface ModelSpec {
  readonly kind: ModelConfig['kind'];
  readonly embeddingWidth: number;
  readonly hiddenWidths: readonly number[];
  /** Fields in the order of the forward pass, adgroup embedding included. */
  readonly fieldCount: number;
  readonly categoryFeatures: readonly string[];
  readonly bagFeatures: readonly {
    readonly name: string;
    readonly lengthMax: number;
  }[];
  readonly numberFeatures: readonly string[];
  readonly hasAdgroupEmbedding: boolean;
  /** A sum of the fields' pairwise products is part of the logit. */
  readonly hasFactorisation: boolean;
  /** A linear weight per id and number is part of the logit. */
  readonly hasLinear: boolean;
  /**
   * Width of every table row: `embeddingWidth` factors (none for logistic), then the linear weight
   * if there is one.
   */
  readonly tableRowWidth: number;
  readonly variables: readonly Variable[];
  readonly tables: readonly TableSpec[];
}

/**
 * Builds the spec from the model section and the encoded features of the task store; what the method
 * learns beside the model comes last.
 */
export function modelSpecOf(
  config: ModelConfig,
  features: readonly EncodedFeature[],
  method: MethodConfig = { kind: 'global' },
): ModelSpec {
  const model = modelAlone(config, features);
  return { ...model, variables: [...model.variables, ...methodVariablesOf(method, model)] };
}

function modelAlone(config: ModelConfig, features: readonly EncodedFeature[]): ModelSpec {
  const ofKind = <Kind extends EncodedFeature['kind']>(
    kind: Kind,
  ): Extract<EncodedFeature, { kind: Kind }>[] =>
    features.filter((f): f is Extract<EncodedFeature, { kind: Kind }> => f.kind === kind);
  const categories = ofKind('category');
  const bags = ofKind('bag');
  const numbers = ofKind('number');

  const isLogistic = config.kind === 'logistic';
  const hasLinear = config.kind !== 'mlp';
  const factorCount = isLogistic ? 0 : config.embeddingWidth;
  const fieldCount =
    categories.length + bags.length + numbers.length + (config.adgroupEmbedding ? 1 : 0);
  const embeddings: Initialisation = {
    kind: 'normal',
    deviation: config.embeddingDeviation,
  };
  const shape = {
    config,
    fieldCount,
    numberCount: numbers.length,
    factorCount,
    hasLinear,
  };

  return {
    kind: config.kind,
    embeddingWidth: factorCount,
    hiddenWidths: config.hiddenWidths,
    fieldCount,
    categoryFeatures: categories.map((f) => f.name),
    bagFeatures: bags.map(({ name, lengthMax }) => ({ name, lengthMax })),
    numberFeatures: numbers.map((f) => f.name),
    hasAdgroupEmbedding: config.adgroupEmbedding,
    hasFactorisation: config.kind === 'deepfm',
    hasLinear,
    tableRowWidth: factorCount + (hasLinear ? 1 : 0),
    variables: variablesOf(shape, embeddings),
    tables: [...categories, ...bags].map(({ name, rowCount }) => ({
      name,
      rowCount,
      initial: isLogistic ? { kind: 'zeros' } : embeddings,
    })),
  };
}

interface ModelShape {
  readonly config: ModelConfig;
  readonly fieldCount: number;
  readonly numberCount: number;
  readonly factorCount: number;
  readonly hasLinear: boolean;
}

function variablesOf(shape: ModelShape, embeddings: Initialisation): Variable[] {
  const { config, fieldCount, numberCount, factorCount, hasLinear } = shape;
  const variables: Variable[] = [];
  const add = (
    block: string,
    name: string,
    extents: readonly number[],
    initial: Initialisation,
  ): void => {
    const isPersonal = config.personal.includes(block);
    variables.push({
      name,
      shape: extents,
      block: isPersonal ? 'personal' : 'trunk',
      initial,
    });
  };
  const zeros: Initialisation = { kind: 'zeros' };

  add('bias', 'bias', [1], zeros);
  if (hasLinear && numberCount > 0) add('numbers', 'numbers.linear', [numberCount], zeros);
  if (factorCount > 0 && numberCount > 0)
    add('numbers', 'numbers.factors', [numberCount, factorCount], embeddings);
  // Zeros: an adgroup nothing is known of adds nothing to any field product.
  if (config.adgroupEmbedding) add('adgroupEmbedding', 'adgroupEmbedding', [factorCount], zeros);
  if (config.kind === 'logistic') return variables;

  let inputWidth = fieldCount * factorCount;
  for (const [index, width] of config.hiddenWidths.entries()) {
    // He et al. (2015): keeps the variance of activations through ReLU layers.
    const deviation = Math.sqrt(2 / inputWidth);
    add(`layer${index}`, `layer${index}.weight`, [inputWidth, width], {
      kind: 'normal',
      deviation,
    });
    add(`layer${index}`, `layer${index}.bias`, [width], zeros);
    inputWidth = width;
  }
  add('output', 'output.weight', [inputWidth, 1], {
    kind: 'normal',
    deviation: Math.sqrt(1 / inputWidth),
  });
  return variables;
}
