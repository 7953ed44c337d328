/**
 * The graph of a bundle's model, for programs that know nothing of qianmo: encoded features and the
 * adgroup's number in, score and expected value out. It follows the plan that the scorers follow.
 */

import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import {
  coverageOf,
  scoringPlanOf,
  type Products,
  type ScoredField,
  type ScoringPlan,
} from '../scoring-plan.js';
import { ModelArrays } from './model-arrays.js';
import { ScoringGraphBuilder, type GraphValue, type ScoringGraph } from './scoring-graph.js';

type ConvertedBundle = Pick<LoadedBundle, 'model' | 'labels' | 'calibrations'> & {
  readonly manifest: Pick<LoadedBundle['manifest'], 'labels' | 'calibrations'>;
};

/** @throws QianmoError of kind `usage` if the model is one that no graph of these operations says. */
export function modelGraphOf(bundle: ConvertedBundle): ScoringGraph {
  const coverage = coverageOf(bundle.model);
  if (!coverage.isCovered) throw notCovered(coverage.reason);
  return new ModelGraphWriter(bundle).graph();
}

interface Field {
  /** `[n, embeddingWidth]`; null where the model has no vectors. */
  readonly vector: GraphValue | null;
  /** `[n, 1]` */
  readonly linear: GraphValue | null;
}

class ModelGraphWriter {
  readonly #bundle: ConvertedBundle;
  readonly #builder = new ScoringGraphBuilder();
  readonly #arrays: ModelArrays;
  readonly #plan: ScoringPlan;
  readonly #width: number;
  readonly #fields: readonly Field[];
  #vectors: GraphValue | null = null;

  constructor(bundle: ConvertedBundle) {
    this.#bundle = bundle;
    this.#arrays = new ModelArrays(bundle.model, this.#builder);
    this.#plan = scoringPlanOf(bundle.model, []);
    this.#width = this.#plan.embeddingWidth;
    this.#fields = this.#plan.fields.map((field) => this.#field(field));
  }

  graph(): ScoringGraph {
    const logit = this.#logit();
    const score = this.#builder.reshape(logit, []);
    const expected = this.#builder.reshape(this.#expected(logit), []);
    return this.#builder.graphOf([
      { name: 'score', value: score },
      { name: 'expected', value: expected },
    ]);
  }

  #logit(): GraphValue {
    const { hasPairTerm, output } = this.#plan;
    const terms = [
      this.#arrays.isOwn('bias') ? this.#arrays.own('bias') : this.#arrays.shared('bias', [1, 1]),
      ...this.#arrays.shifts(),
      ...this.#fields.flatMap(({ linear }) => linear ?? []),
      ...(hasPairTerm && this.#width > 0 ? [this.#pairTerm()] : []),
    ];
    if (output !== null) {
      const crossed = this.#crossed();
      const pieces = [
        ...(output.hasCrossed && crossed !== null ? [crossed] : []),
        ...(output.hasTower ? [this.#tower(crossed)] : []),
        ...this.#products(output.products),
      ];
      if (pieces.length > 0)
        terms.push(this.#layer(this.#builder.concat(pieces), 'output.weight', 1));
    }
    return this.#sumOf(terms);
  }

  #sumOf(terms: readonly GraphValue[]): GraphValue {
    const builder = this.#builder;
    const sum = terms.reduce((total, term) => builder.binary('add', total, term));
    if (at(sum.shape, 0) === null) return sum;
    // A model without any term of its own rows still has a row for each.
    const zeros = builder.binary(
      'mul',
      builder.unary('toFloat', this.#arrays.adgroups),
      builder.number(0),
    );
    return builder.binary('add', sum, builder.reshape(zeros, [1]));
  }

  #field(field: ScoredField): Field {
    const builder = this.#builder;
    const { hasLinear } = this.#plan;
    if (field.source === 'number') return this.#number(field.place.name, field.number);
    const row =
      field.source === 'block'
        ? this.#arrays.own(field.name)
        : field.isBag
          ? this.#meanOfBag(field.place.name)
          : builder.rows(
              this.#arrays.table(field.place.name),
              this.#arrays.feature(field.place.name),
            );
    const isLinear = field.source === 'block' ? field.hasLinear : hasLinear;
    return {
      vector: this.#width === 0 ? null : builder.slice(row, 0, this.#width),
      linear: isLinear ? builder.slice(row, this.#width, this.#width + 1) : null,
    };
  }

  #number(name: string, place: number): Field {
    const builder = this.#builder;
    const width = this.#width;
    const value = this.#arrays.number(name);
    const weighted = (variable: string, count: number): GraphValue => {
      const [start, end] = [place * count, (place + 1) * count];
      const weights = this.#arrays.isOwn(variable)
        ? builder.slice(this.#arrays.own(variable), start, end)
        : builder.constant(this.#arrays.tensor(variable).values.slice(start, end), [1, count]);
      return builder.binary('mul', value, weights);
    };
    return {
      vector: width === 0 ? null : weighted('numbers.factors', width),
      linear: this.#plan.hasLinear ? weighted('numbers.linear', 1) : null,
    };
  }

  /** Empty places are -1: they count as the last row of the table if that is trained, and not at all otherwise. */
  #meanOfBag(name: string): GraphValue {
    const builder = this.#builder;
    const ids = this.#arrays.feature(name);
    const table = this.#arrays.table(name);
    const [rowCount, rowWidth] = [at(table.shape, 0) ?? 0, at(table.shape, 1) ?? 0];
    const length = at(ids.shape, 1) ?? 0;
    const zero = builder.constant(Int32Array.of(0), []);
    const known = builder.binary('max', ids, zero);
    if (this.#bundle.model.spec.options.padding === 'trained') {
      // Ids of empty places move from 0 to the last row.
      const isEmpty = builder.compare('isEqual', ids, builder.constant(Int32Array.of(-1), []));
      const rows = this.#weightedMean(builder.rows(table, known), { isEmpty, table, rowCount });
      return builder.binary('div', builder.sum(rows, 1), builder.number(length));
    }
    const isKnown = builder.compare('isAtLeast', ids, zero);
    const mask = builder.reshape(isKnown, [length, 1]);
    const sum = builder.sum(builder.binary('mul', builder.rows(table, known), mask), 1);
    const count = builder.binary(
      'max',
      builder.reshape(builder.sum(isKnown, 1), [1]),
      builder.number(1),
    );
    if (at(sum.shape, 1) !== rowWidth) throw new Error('a bag of another width');
    return builder.binary('div', sum, count);
  }

  #weightedMean(
    rows: GraphValue,
    {
      isEmpty,
      table,
      rowCount,
    }: { readonly isEmpty: GraphValue; readonly table: GraphValue; readonly rowCount: number },
  ): GraphValue {
    const builder = this.#builder;
    const length = at(isEmpty.shape, 1) ?? 0;
    const mask = builder.reshape(isEmpty, [length, 1]);
    const last = builder.rows(table, builder.constant(Int32Array.of(rowCount - 1), [1]));
    const kept = builder.binary('mul', rows, builder.binary('sub', builder.number(1), mask));
    return builder.binary('add', kept, builder.binary('mul', mask, last));
  }

  #vectorOf(field: number): GraphValue {
    const { vector } = at(this.#fields, field);
    if (vector === null) throw new Error('a model without vectors');
    return vector;
  }

  /** `[n, fieldCount, width]` */
  #stacked(): GraphValue {
    const { fields } = this.#plan;
    this.#vectors ??= this.#builder.reshape(
      this.#builder.concat(fields.map((_, field) => this.#vectorOf(field))),
      [fields.length, this.#width],
    );
    return this.#vectors;
  }

  #sumOfFields(places: readonly number[]): GraphValue {
    return this.#builder.sum(this.#builder.columns(this.#stacked(), places), 1);
  }

  /** Half of the square of the sum without the squares, summed over the width. */
  #pairTerm(): GraphValue {
    const builder = this.#builder;
    const { factorised } = this.#plan;
    if (factorised.length === 0) return builder.constant(Float32Array.of(0), [1, 1]);
    const vectors = builder.columns(this.#stacked(), factorised);
    const sum = builder.sum(vectors, 1);
    const squares = builder.sum(builder.binary('mul', vectors, vectors), 1);
    const twice = builder.sum(builder.binary('sub', builder.binary('mul', sum, sum), squares), 1);
    return builder.reshape(builder.binary('mul', twice, builder.number(0.5)), [1]);
  }

  #crossed(): GraphValue | null {
    const { cross, fields } = this.#plan;
    if (cross === null) return null;
    const builder = this.#builder;
    const input = builder.reshape(this.#stacked(), [fields.length * this.#width]);
    let crossed = input;
    for (let layer = 0; layer < cross.layerCount; layer += 1) {
      const name = `cross${layer}`;
      const isLow = cross.rank !== null;
      const compressed = isLow
        ? builder.matMul(crossed, this.#arrays.shared(`${name}.compress`))
        : crossed;
      const weights = this.#arrays.shared(`${name}.${isLow ? 'expand' : 'weight'}`);
      const bias = this.#arrays.tensor(`${name}.bias`).values;
      const factors = builder.binary(
        'add',
        builder.matMul(compressed, weights),
        this.#arrays.shared(`${name}.bias`, [1, bias.length]),
      );
      crossed = builder.binary('add', crossed, builder.binary('mul', input, factors));
    }
    return crossed;
  }

  #tower(crossed: GraphValue | null): GraphValue {
    const builder = this.#builder;
    const { tower } = this.#plan;
    if (tower === null) throw new Error('a model without a tower');
    let hidden = tower.input === null ? crossed : this.#towerInput(tower.input);
    if (hidden === null) throw new Error('a tower without an input');
    for (const [layer, width] of tower.hiddenWidths.entries()) {
      const bias = this.#arrays.isOwn(`layer${layer}.bias`)
        ? this.#arrays.own(`layer${layer}.bias`)
        : this.#arrays.shared(`layer${layer}.bias`, [1, width]);
      const sums = builder.binary('add', this.#layer(hidden, `layer${layer}.weight`, width), bias);
      hidden = builder.unary('relu', sums);
    }
    return hidden;
  }

  #towerInput({
    fields,
    products,
  }: NonNullable<NonNullable<ScoringPlan['tower']>['input']>): GraphValue {
    const vectors = fields.map((field) => this.#vectorOf(field));
    return this.#builder.concat([...vectors, ...this.#products(products)]);
  }

  /** `[n, width]`: the input times weights that the block has or that all share. */
  #layer(input: GraphValue, name: string, width: number): GraphValue {
    const builder = this.#builder;
    const inputWidth = at(input.shape, 1) ?? 0;
    if (!this.#arrays.isOwn(name))
      return builder.matMul(input, this.#arrays.shared(name, [inputWidth, width]));
    const weights = builder.reshape(this.#arrays.own(name), [inputWidth, width]);
    const product = builder.matMul(builder.reshape(input, [1, inputWidth]), weights);
    return builder.reshape(product, [width]);
  }

  /** `[n, count]` for each kind of products that there is. */
  #products({ pairs, byField, hasOuter }: Products): GraphValue[] {
    const builder = this.#builder;
    const { fields, factorised } = this.#plan;
    const width = this.#width;
    const products: GraphValue[] = [];
    if (pairs.length > 0) {
      const count = fields.length;
      const all = builder.matMulTransposed(this.#stacked(), this.#stacked());
      const places = pairs.map(([f, g]) => f * count + g);
      products.push(builder.columns(builder.reshape(all, [count * count]), places));
    }
    if (byField.length > 0) {
      const all = builder.reshape(builder.sum(this.#stacked(), 1), [1, width]);
      const others = builder.binary('sub', all, this.#stacked());
      const each = builder.sum(builder.binary('mul', this.#stacked(), others), 2);
      products.push(builder.columns(each, byField));
    }
    if (hasOuter && factorised.length > 0) {
      const sum = this.#sumOfFields(factorised);
      const outer = builder.binary(
        'mul',
        builder.reshape(sum, [width, 1]),
        builder.reshape(sum, [1, width]),
      );
      products.push(builder.reshape(outer, [width * width]));
    }
    return products;
  }

  /** Calibrated: a probability, or a value in its own unit. */
  #expected(logit: GraphValue): GraphValue {
    const builder = this.#builder;
    const { manifest, labels, calibrations } = this.#bundle;
    const byCalibration = (name: string, of: (place: number) => number): GraphValue =>
      this.#arrays.byBlock(
        name,
        calibrations,
        manifest.calibrations.map((_, place) => of(place)),
      );
    const calibrated = builder.binary(
      'add',
      builder.binary(
        'mul',
        logit,
        byCalibration('slope', (place) => at(manifest.calibrations, place).slope),
      ),
      byCalibration('offset', (place) => at(manifest.calibrations, place).offset),
    );
    const byLabel = (
      name: string,
      of: (label: (typeof manifest.labels)[number]) => number,
    ): GraphValue => this.#arrays.byBlock(name, labels, manifest.labels.map(of));
    const probability = builder.unary('sigmoid', calibrated);
    if (manifest.labels.every(({ loss }) => loss === 'binary')) return probability;
    const value = builder.binary(
      'add',
      byLabel('mean', (label) => (label.loss === 'binary' ? 0 : label.mean)),
      builder.binary(
        'mul',
        byLabel('deviation', (label) => (label.loss === 'binary' ? 0 : label.deviation)),
        calibrated,
      ),
    );
    // The mean and deviation of a probability are 0, and so is its value.
    const isProbability = byLabel('isProbability', ({ loss }) => Number(loss === 'binary'));
    return builder.binary('add', builder.binary('mul', isProbability, probability), value);
  }
}

function notCovered(reason: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the model cannot be written for other servers',
    expected: 'a built-in model without personal cross layers',
    found: reason,
    cure: 'train a model without it, or rank with the captured graph in a program of your own',
  });
}
