/** What a graph of a model reads: features of the rows, shared variables, and variables of each row's block. */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { supportInputNames } from '../../../shared/models/kinds/support-inputs.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import {
  blockArraysOf,
  effectArraysOf,
  levelArrayOf,
  supportArraysOf,
  wholeArray,
  type ListArrays,
  type SupportArrays,
} from './block-arrays.js';
import type { GraphArray, GraphValue, ScoringGraphBuilder } from './scoring-graph.js';

/** The input that says which adgroup a row is of: the number of its block, 0 for an unknown one. */
export const ADGROUP_INPUT = 'adgroup_index';

export class ModelArrays {
  readonly #model: RankingModel;
  readonly #builder: ScoringGraphBuilder;
  readonly #features = new Map<string, GraphValue>();
  readonly #own = new Map<string, GraphValue>();
  readonly #shared = new Map<string, GraphValue>();
  readonly #support: SupportArrays | null;
  readonly adgroups: GraphValue;

  /** @throws QianmoError of kind `usage` if a feature has the name of the adgroup's input. */
  constructor(model: RankingModel, builder: ScoringGraphBuilder) {
    this.#model = model;
    this.#builder = builder;
    this.adgroups = builder.input(ADGROUP_INPUT, 'int32', [null]);
    const { categoryFeatures, bagFeatures, numberFeatures } = model.spec;
    const add = (name: string, type: 'int32' | 'float32', rest: readonly number[]): void => {
      if (name === ADGROUP_INPUT) throw sameName(name);
      this.#features.set(name, builder.input(name, type, [null, ...rest]));
    };
    for (const name of categoryFeatures) add(name, 'int32', []);
    for (const { name, lengthMax } of bagFeatures) add(name, 'int32', [lengthMax]);
    const { supportInputs } = model.spec.options;
    const derived = supportInputNames(supportInputs);
    for (const name of numberFeatures) if (!derived.includes(name)) add(name, 'float32', []);
    this.#support =
      supportInputs === undefined ? null : supportArraysOf(model.blocks, supportInputs);
  }

  feature(name: string): GraphValue {
    const found = this.#features.get(name);
    if (found === undefined) throw new Error(`the model has no feature ${name}`);
    return found;
  }

  /** A number of the data or of the support rows, `[n, 1]`. */
  number(name: string): GraphValue {
    const builder = this.#builder;
    const given = this.#features.get(name);
    if (given !== undefined) return builder.reshape(given, [1]);
    const ofBlock = this.#support?.ofBlocks.get(name);
    if (ofBlock !== undefined) return builder.rows(builder.array(ofBlock), this.adgroups);
    const ofValue = this.#support?.ofValues.find(
      ({ feature }) => name === `support.target.${feature}`,
    );
    // No block has seen any value of the feature.
    if (ofValue === undefined) return builder.constant(Float32Array.of(0), [1, 1]);
    return this.#ofListedValue(ofValue);
  }

  isOwn(name: string): boolean {
    return this.#model.blocks.layout.parts.some((part) => part.name === name);
  }

  tensor(name: string): DenseTensor {
    const tensor = this.#model.dense.get(name);
    if (tensor === undefined) throw new Error(`the model has no variable ${name}`);
    return tensor;
  }

  /** A variable that all adgroups share, in another shape of as many elements if one is given. */
  shared(name: string, shape: readonly number[] = this.tensor(name).shape): GraphValue {
    const known = this.#shared.get(name);
    if (known !== undefined) return known;
    const found = this.#builder.array(wholeArray(`dense/${name}`, shape, this.tensor(name).values));
    this.#shared.set(name, found);
    return found;
  }

  /** `[rowCount, rowWidth]` */
  table(name: string): GraphValue {
    const table = this.#model.tables.get(name);
    if (table === undefined) throw new Error(`the model has no table ${name}`);
    const known = this.#shared.get(`tables/${name}`);
    if (known !== undefined) return known;
    const { rowCount, width, values } = table;
    const found = this.#builder.array(wholeArray(`tables/${name}`, [rowCount, width], values));
    this.#shared.set(`tables/${name}`, found);
    return found;
  }

  /** A variable of each row's block, `[n, elements]` in float32. */
  own(name: string): GraphValue {
    const known = this.#own.get(name);
    if (known !== undefined) return known;
    const builder = this.#builder;
    const { values, scales } = blockArraysOf(this.#model.blocks, name);
    const stored = builder.rows(builder.array(values), this.adgroups);
    const found =
      scales === null
        ? values.type === 'float32'
          ? stored
          : builder.unary('toFloat', stored)
        : this.#fromDifferences(name, stored, scales);
    this.#own.set(name, found);
    return found;
  }

  /** int8 stores differences from block 0. */
  #fromDifferences(name: string, stored: GraphValue, scales: GraphArray): GraphValue {
    const builder = this.#builder;
    const count = at(stored.shape, 1) ?? 0;
    const scaleCount = at(scales.shape, 1);
    const steps = builder.reshape(builder.unary('toFloat', stored), [
      scaleCount,
      count / scaleCount,
    ]);
    const scale = builder.reshape(builder.rows(builder.array(scales), this.adgroups), [
      scaleCount,
      1,
    ]);
    const moves = builder.reshape(builder.binary('mul', steps, scale), [count]);
    const initial = builder.array(
      wholeArray(`unknown/${name}`, [1, count], this.tensor(name).values),
    );
    return builder.binary('add', initial, moves);
  }

  /** What the shifts add to each row, `[n, 1]` each. */
  shifts(): GraphValue[] {
    const builder = this.#builder;
    const level = levelArrayOf(this.#model.blocks);
    return [
      ...(level === null ? [] : [builder.rows(builder.array(level), this.adgroups)]),
      ...effectArraysOf(this.#model.blocks).map((arrays) => this.#ofListedValue(arrays)),
    ];
  }

  /** At most one place of a list has the row's value. */
  #ofListedValue({ feature, ids, values }: ListArrays): GraphValue {
    const builder = this.#builder;
    const own = builder.rows(builder.array(ids), this.adgroups);
    const wanted = builder.reshape(this.feature(feature), [1]);
    const isWanted = builder.compare('isEqual', own, wanted);
    const listed = builder.rows(builder.array(values), this.adgroups);
    return builder.reshape(builder.sum(builder.binary('mul', isWanted, listed), 1), [1]);
  }

  /** `values` of the place that each row's block has in a list, `[n, 1]`. */
  byBlock(name: string, places: Int32Array, values: readonly number[]): GraphValue {
    const builder = this.#builder;
    const pieces = Float32Array.from(places, (place) => numberAt(values, place));
    return builder.rows(
      builder.array(wholeArray(`blocks/${name}`, [places.length, 1], pieces)),
      this.adgroups,
    );
  }
}

function sameName(name: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a feature has the name of the input that says which adgroup a row is of',
    found: name,
    cure: 'rename the feature and train the run again, or serve the bundle with `qianmo serve`',
  });
}
