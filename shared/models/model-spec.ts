/**
 * The parts of a model: its variables, which of them are personal, its embedding tables, and
 * the initial values of all of them.
 *
 * All models share a frame: a logit that is a sum of terms, among them a bias and, where the model
 * has them, linear weights, over fields, in order: category features, bag features (mean of their
 * members), number features (value times a factor vector), adgroup embedding. What a model adds to
 * the frame is in `kinds/models.ts`.
 */

import type { ModelConfig } from './model-config.js';
import { METHODS, methodPlanOf, methodVariablesOf, type MethodConfig } from '../methods/methods.js';
import { at } from '../base/arrays.js';
import type { RowPackLayout } from '../tasks/row-pack.js';
import { unseenBucketsOf, type EncodedFeature } from '../tasks/store-manifest.js';
import {
  GENERATED_BLOCK,
  personalVariables,
  VARIANCES,
} from '../methods/inner-loop/personal-blocks.js';
import type {
  FieldFrame,
  ModelDefinition,
  WeightInitialisation,
} from './kinds/model-definition.js';
import type { ModelOptions } from './kinds/model-options.js';
import { MODELS } from './kinds/models.js';
import { supportInputNames } from './kinds/support-inputs.js';
import { elementCountOf, type Initialisation, type Variable } from '../tensors/named-tensors.js';

interface TableSpec {
  /** The feature whose ids index the rows. */
  readonly name: string;
  readonly rowCount: number;
  readonly initial: Initialisation;
  /** The rows 1 to this one are copies of row 0, that of unknown values; absent if there are none. */
  readonly unknownCopyCount?: number;
  /** No outer step changes it. */
  readonly isFixed?: true;
}

export interface ModelSpec extends FieldFrame {
  readonly kind: string;
  readonly options: Omit<ModelConfig, 'kind'>;
  readonly categoryFeatures: readonly string[];
  readonly bagFeatures: readonly {
    readonly name: string;
    readonly lengthMax: number;
  }[];
  /** Number features of the data, then those derived from the support rows. */
  readonly numberFeatures: readonly string[];
  readonly hasAdgroupEmbedding: boolean;
  /** A linear weight per id and number is part of the logit. */
  readonly hasLinear: boolean;
  /**
   * Width of every table row: `embeddingWidth` factors (none for logistic), then the linear weight
   * if there is one.
   */
  readonly tableRowWidth: number;
  readonly variables: readonly Variable[];
  /** The category whose values are crowds; absent if there is none. */
  readonly crowd?: string;
  /** The numbers that each task has of its own: the personal variables, and their variances where the method has them. */
  readonly ownVariables: readonly Pick<Variable, 'name' | 'shape'>[];
  readonly tables: readonly TableSpec[];
  /** The variables and tables that outer steps change, in the order of the spec. The rest is frozen. */
  readonly learned: LearnedNames;
}

type FeatureOf<Kind extends EncodedFeature['kind']> = Extract<EncodedFeature, { kind: Kind }>;

/**
 * Builds the spec from the model section and the encoded features of the task store; the variables of
 * the method come last.
 *
 * @param trainable as `training.trainable`: restricts what the method learns.
 */
export function modelSpecOf(
  config: ModelConfig,
  features: readonly EncodedFeature[],
  method: MethodConfig = { kind: 'global' },
  trainable?: readonly string[],
): ModelSpec {
  const { learns = 'all', innerLoop, crowd } = methodPlanOf(method);
  const model = withoutTable(modelAlone(config, features), crowd);
  const variables = [...model.variables, ...methodVariablesOf(method, model)];
  const learned = learnedNamesOf({ ...model, variables }, learns, trainable);
  const personal = personalVariables(model).map(({ name, shape }) => ({ name, shape }));
  const count = personal.reduce((sum, { shape }) => sum + elementCountOf(shape), 0);
  const variances = innerLoop.variances === undefined ? [] : [{ name: VARIANCES, shape: [count] }];
  return {
    ...{ ...model, variables, ownVariables: [...personal, ...variances], learned },
    ...(crowd === undefined ? {} : { crowd }),
  };
}

/** A field of zeros that never learns says nothing. */
function withoutTable<Model extends Pick<ModelSpec, 'tables'>>(
  model: Model,
  unread: string | undefined,
): Model {
  if (unread === undefined) return model;
  const tables = model.tables.map((table): TableSpec =>
    table.name === unread ? { ...table, initial: { kind: 'zeros' }, isFixed: true } : table,
  );
  return { ...model, tables };
}

function modelAlone(
  config: ModelConfig,
  features: readonly EncodedFeature[],
): Omit<ModelSpec, 'learned' | 'ownVariables'> {
  const { kind, ...options } = config;
  const definition = MODELS.get(kind);
  const ofKind = <Kind extends EncodedFeature['kind']>(wanted: Kind): FeatureOf<Kind>[] =>
    features.filter((f): f is FeatureOf<Kind> => f.kind === wanted);
  const categories = ofKind('category');
  const bags = ofKind('bag');
  const numbers = [
    ...ofKind('number').map(({ name }) => name),
    ...supportInputNames(options.supportInputs),
  ];
  const hasLinear = hasLinearWeights(definition, options);
  const frame = fieldFrameOf(definition, options, [
    ...[...categories, ...bags].map(({ name }) => name),
    ...numbers,
    ...(options.adgroupEmbedding ? ['adgroupEmbedding'] : []),
  ]);
  // See `tasks/trained-padding.ts`.
  const paddingRowCount = options.padding === 'trained' ? 1 : 0;
  const width = frame.embeddingWidth + (hasLinear ? 1 : 0);
  return {
    ...frame,
    kind,
    options,
    categoryFeatures: categories.map((f) => f.name),
    bagFeatures: bags.map(({ name, lengthMax }) => ({ name, lengthMax })),
    numberFeatures: numbers,
    hasAdgroupEmbedding: options.adgroupEmbedding,
    hasLinear,
    tableRowWidth: width,
    variables: variablesOf(definition, options, frame, { numberCount: numbers.length, hasLinear }),
    tables: [
      ...categories,
      ...bags.map((bag) => ({ ...bag, rowCount: bag.rowCount + paddingRowCount })),
    ].map((feature) => {
      const { name, rowCount } = feature;
      const unknownCopyCount = unseenBucketsOf(feature);
      return {
        ...{
          name,
          rowCount,
          initial: tableInitialisation(definition, options, { name, rowCount }),
        },
        ...(unknownCopyCount === 0 ? {} : { unknownCopyCount }),
      };
    }),
  };
}

function hasLinearWeights({ linear }: ModelDefinition, options: ModelOptions): boolean {
  if (linear === 'always' || linear === 'never') return linear === 'always';
  return options.linear ?? linear === 'by-default';
}

function fieldFrameOf(
  { hasFactors }: ModelDefinition,
  options: ModelOptions,
  names: readonly string[],
): FieldFrame {
  const placesOf = (wanted: readonly string[]): number[] =>
    wanted
      .map((name) => {
        const place = names.indexOf(name);
        if (place < 0) throw new Error(`the task store has no feature ${name}`);
        return place;
      })
      .sort((a, b) => a - b);
  return {
    fieldCount: names.length,
    embeddingWidth: hasFactors ? options.embeddingWidth : 0,
    factorisedPlaces: placesOf(options.factorisedFields ?? names),
    widePlaces: placesOf(options.wideFields ?? []),
  };
}

/**
 * Every two factorised fields in the order of their weights: by the kind of the second (feature with a
 * table, number, adgroup embedding), then of the first, then by place.
 */
export function factorisedPairs(
  spec: Pick<ModelSpec, 'factorisedPlaces' | 'categoryFeatures' | 'bagFeatures' | 'numberFeatures'>,
): (readonly [first: number, second: number])[] {
  const places = spec.factorisedPlaces;
  const tableCount = spec.categoryFeatures.length + spec.bagFeatures.length;
  const kindOf = (place: number): number =>
    Number(place >= tableCount) + Number(place >= tableCount + spec.numberFeatures.length);
  const order = ([f, g]: readonly [number, number]): number => 3 * kindOf(g) + kindOf(f);
  return places
    .flatMap((f) => places.filter((g) => f < g).map((g) => [f, g] as const))
    .sort((a, b) => order(a) - order(b));
}

function tableInitialisation(
  { hasFactors }: ModelDefinition,
  { embeddingDeviation, embeddingWidth, initialisation }: ModelOptions,
  { name, rowCount }: { readonly name: string; readonly rowCount: number },
): Initialisation {
  if (!hasFactors) return { kind: 'zeros' };
  const own = initialisation?.tables?.[name];
  if (own === undefined) return { kind: 'normal', deviation: embeddingDeviation };
  return own.kind === 'glorot-uniform' ? glorotUniform(rowCount, embeddingWidth) : own;
}

/** Glorot and Bengio (AISTATS 2010), equation 16. */
function glorotUniform(inCount: number, outCount: number): Initialisation {
  return { kind: 'uniform', bound: Math.sqrt(6 / (inCount + outCount)) };
}

function variablesOf(
  definition: ModelDefinition,
  options: ModelOptions,
  frame: FieldFrame,
  { numberCount, hasLinear }: { readonly numberCount: number; readonly hasLinear: boolean },
): Variable[] {
  const variables: Variable[] = [];
  const add = (
    block: string,
    name: string,
    shape: readonly number[],
    initial: Initialisation,
  ): void => {
    const isPersonal = options.personal.includes(block);
    variables.push({ name, shape, block: isPersonal ? 'personal' : 'trunk', initial });
  };
  const zeros: Initialisation = { kind: 'zeros' };
  const { embeddingWidth } = frame;

  add('bias', 'bias', [1], zeros);
  if (hasLinear && numberCount > 0) add('numbers', 'numbers.linear', [numberCount], zeros);
  if (embeddingWidth > 0 && numberCount > 0)
    add('numbers', 'numbers.factors', [numberCount, embeddingWidth], {
      kind: 'normal',
      deviation: options.embeddingDeviation,
    });
  // Zeros, so that a new adgroup adds nothing to any product of fields.
  if (options.adgroupEmbedding)
    add('adgroupEmbedding', 'adgroupEmbedding', [embeddingWidth], zeros);
  // Not among the blocks of `personal`, which serve all tasks if none adapts.
  if (options.generated !== undefined) {
    const shape = [embeddingWidth + (hasLinear ? 1 : 0)];
    variables.push({ name: GENERATED_BLOCK, shape, block: 'personal', initial: zeros });
  }
  for (const { block, name, shape, initial } of definition.variables(options, frame))
    add(block, name, shape, layerInitialisation(initial, options));
  return variables;
}

function layerInitialisation(
  initial: WeightInitialisation,
  { initialisation }: ModelOptions,
): Initialisation {
  if (initial.kind === 'zeros') return initial;
  return initialisation?.layers === 'glorot-uniform'
    ? glorotUniform(...initial.extents)
    : { kind: 'normal', deviation: initial.deviation };
}

/**
 * A method may keep the model and learn its own variables alone, and `training.trainable` may restrict what
 * learns. The rest is frozen.
 */
interface LearnedNames {
  readonly variables: readonly string[];
  readonly tables: readonly string[];
}

/** @param learns with `method`, only the variables of block `method` learn. */
export function learnedNamesOf(
  {
    variables,
    tables,
  }: {
    readonly variables: readonly Variable[];
    readonly tables: readonly { readonly name: string; readonly isFixed?: true }[];
  },
  learns: 'all' | 'method',
  trainable?: readonly string[],
): LearnedNames {
  const isTrainable = (learned: Pick<Variable, 'name' | 'isFixed'> & { block?: string }): boolean =>
    learned.isFixed !== true && (trainable?.some((named) => isCovered(learned, named)) ?? true);
  const nameOf = ({ name }: { readonly name: string }): string => name;
  return {
    variables: variables
      .filter(({ block }) => learns === 'all' || block === 'method')
      .filter(isTrainable)
      .map(nameOf),
    tables: learns === 'all' ? tables.filter(isTrainable).map(nameOf) : [],
  };
}

/** Returns whether a name of `trainable` stands for a variable or table: its own, its block's, or for variables of the method that of a method. */
export function isCovered(
  { name, block }: { readonly name: string; readonly block?: string },
  named: string,
): boolean {
  return isNamed(name, named) || (block === 'method' && METHODS.kinds().includes(named));
}

/** Returns whether a name of `trainable` is that of the variable or table, or of the block it belongs to. */
export function isNamed(name: string, named: string): boolean {
  return name === named || name.startsWith(`${named}.`);
}

export function learnedVariables({ learned, variables }: ModelSpec): readonly Variable[] {
  const names = new Set(learned.variables);
  return variables.filter(({ name }) => names.has(name));
}

export function frozenVariables({ learned, variables }: ModelSpec): readonly Variable[] {
  const names = new Set(learned.variables);
  return variables.filter(({ name }) => !names.has(name));
}

export function learnsAll({ learned, variables, tables }: ModelSpec): boolean {
  return learned.variables.length === variables.length && learned.tables.length === tables.length;
}

/** The rows of a row pack that have a gradient: those of tables that learn, in their order. */
export interface LearnedRows {
  readonly rowCount: number;
  /** For each learned table, where its rows begin in the pack and among the learned rows. */
  readonly spans: readonly LearnedSpan[];
}

interface LearnedSpan {
  /** Index of the table in the spec. */
  readonly tableIndex: number;
  readonly packStart: number;
  readonly start: number;
  readonly rowCount: number;
}

export function learnedRowsOf({ learned, tables }: ModelSpec, layout: RowPackLayout): LearnedRows {
  const names = new Set(learned.tables);
  const spans: LearnedSpan[] = [];
  let start = 0;
  for (const [tableIndex, { name }] of tables.entries()) {
    if (!names.has(name)) continue;
    const rowCount = at(layout.idsByTable, tableIndex).length;
    spans.push({ tableIndex, packStart: at(layout.startByTable, tableIndex), start, rowCount });
    start += rowCount;
  }
  return { rowCount: start, spans };
}
