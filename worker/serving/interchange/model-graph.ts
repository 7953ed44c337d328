/**
 * The graph of a bundle's model, for programs that know nothing of qianmo: encoded features and the
 * adgroup's number in, score and expected value out. It follows the plan that the scorers follow.
 */

import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { hasOutput, outputReadsCrossed } from '../../../shared/models/kinds/model-terms.js';
import {
  coverageOf,
  scoringPlanOf,
  type ResolvedProducts,
  type ScoredField,
  type ScoringPlan,
} from '../scoring-plan.js';
import { ModelArrays } from './model-arrays.js';
import { OnnxGraph, type GraphValue } from './onnx-graph.js';

type ConvertedBundle = Pick<LoadedBundle, 'model' | 'labels' | 'calibrations'> & {
  readonly manifest: Pick<LoadedBundle['manifest'], 'labels' | 'calibrations'>;
};

/** @throws QianmoError of kind `usage` if the model is one that no graph of these operations says. */
export function modelGraphOf(bundle: ConvertedBundle): OnnxGraph {
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
  readonly #graph = new OnnxGraph();
  readonly #arrays: ModelArrays;
  readonly #plan: ScoringPlan;
  readonly #width: number;
  readonly #fields: readonly Field[];
  #vectors: GraphValue | null = null;

  constructor(bundle: ConvertedBundle) {
    this.#bundle = bundle;
    this.#arrays = new ModelArrays(bundle.model, this.#graph);
    this.#plan = scoringPlanOf(bundle.model, []);
    this.#width = this.#plan.embeddingWidth;
    this.#fields = this.#plan.fields.map((field) => this.#field(field));
  }

  graph(): OnnxGraph {
    const logit = this.#logit();
    const expected = this.#expected(logit);
    this.#graph.output('score', this.#graph.reshape(logit, []));
    this.#graph.output('expected', this.#graph.reshape(expected, []));
    return this.#graph;
  }

  #logit(): GraphValue {
    const { terms: stated, weighedProducts } = this.#plan;
    const terms = [
      this.#arrays.bias('bias'),
      ...this.#arrays.shifts(),
      ...this.#fields.flatMap(({ linear }) => linear ?? []),
      ...(stated.hasPairSum === true && this.#width > 0 ? [this.#pairTerm()] : []),
    ];
    if (hasOutput(stated)) {
      const crossed = this.#crossed();
      const pieces = [
        ...(outputReadsCrossed(stated) && crossed !== null ? [crossed] : []),
        ...(stated.tower === undefined ? [] : [this.#tower(crossed)]),
        ...this.#products(weighedProducts),
      ];
      if (pieces.length > 0)
        terms.push(this.#layer(this.#graph.concat(pieces), 'output.weight', 1));
    }
    return this.#sumOf(terms);
  }

  #sumOf(terms: readonly GraphValue[]): GraphValue {
    const graph = this.#graph;
    const sum = terms.reduce((total, term) => graph.add(total, term));
    if (at(sum.shape, 0) === null) return sum;
    // A model without any term of its own rows still has a row for each.
    const zeros = graph.mul(graph.toFloat(this.#arrays.adgroups), graph.number(0));
    return graph.add(sum, graph.reshape(zeros, [1]));
  }

  #field(field: ScoredField): Field {
    const graph = this.#graph;
    const { hasLinear } = this.#plan;
    if (field.source === 'number') return this.#number(field.place.name, field.number);
    const row =
      field.source === 'block'
        ? this.#arrays.own(field.name)
        : field.isBag
          ? this.#meanOfBag(field.place.name)
          : graph.rows(
              this.#arrays.table(field.place.name),
              this.#arrays.feature(field.place.name),
            );
    const isLinear = field.source === 'block' ? field.hasLinear : hasLinear;
    return {
      vector: this.#width === 0 ? null : graph.slice(row, 0, this.#width),
      linear: isLinear ? graph.slice(row, this.#width, this.#width + 1) : null,
    };
  }

  #number(name: string, place: number): Field {
    const graph = this.#graph;
    const width = this.#width;
    const value = this.#arrays.number(name);
    const weighted = (variable: string, count: number): GraphValue => {
      const [start, end] = [place * count, (place + 1) * count];
      const weights = this.#arrays.isOwn(variable)
        ? graph.slice(this.#arrays.own(variable), start, end)
        : graph.constant(this.#arrays.tensor(variable).values.slice(start, end), [1, count]);
      return graph.mul(value, weights);
    };
    return {
      vector: width === 0 ? null : weighted('numbers.factors', width),
      linear: this.#plan.hasLinear ? weighted('numbers.linear', 1) : null,
    };
  }

  /** Empty places are -1: they count as the last row of the table if that is trained, and not at all otherwise. */
  #meanOfBag(name: string): GraphValue {
    const graph = this.#graph;
    const ids = this.#arrays.feature(name);
    const table = this.#arrays.table(name);
    const rowCount = at(table.shape, 0) ?? 0;
    const length = at(ids.shape, 1) ?? 0;
    const zero = graph.constant(Int32Array.of(0), []);
    const known = graph.max(ids, zero);
    if (this.#bundle.model.spec.options.padding === 'trained') {
      // -1 moves to the last row, other ids stay.
      const moves = graph.mul(graph.sub(known, ids), graph.constant(Int32Array.of(rowCount), []));
      const rows = graph.rows(table, graph.add(ids, moves));
      return graph.div(graph.sum(rows, 1), graph.number(length));
    }
    const isKnown = graph.compare('GreaterOrEqual', ids, zero);
    const mask = graph.reshape(isKnown, [length, 1]);
    const sum = graph.sum(graph.mul(graph.rows(table, known), mask), 1);
    const count = graph.max(graph.reshape(graph.sum(isKnown, 1), [1]), graph.number(1));
    return graph.div(sum, count);
  }

  #vectorOf(field: number): GraphValue {
    const { vector } = at(this.#fields, field);
    if (vector === null) throw new Error('a model without vectors');
    return vector;
  }

  /** `[n, fieldCount, width]` */
  #stacked(): GraphValue {
    const { fields } = this.#plan;
    this.#vectors ??= this.#graph.reshape(
      this.#graph.concat(fields.map((_, field) => this.#vectorOf(field))),
      [fields.length, this.#width],
    );
    return this.#vectors;
  }

  #sumOfFields(places: readonly number[]): GraphValue {
    return this.#graph.sum(this.#graph.columns(this.#stacked(), places), 1);
  }

  /** Half of the square of the sum without the squares, summed over the width. */
  #pairTerm(): GraphValue {
    const graph = this.#graph;
    const { factorised } = this.#plan;
    if (factorised.length === 0) return graph.constant(Float32Array.of(0), [1, 1]);
    const vectors = graph.columns(this.#stacked(), factorised);
    const sum = graph.sum(vectors, 1);
    const squares = graph.sum(graph.mul(vectors, vectors), 1);
    const twice = graph.sum(graph.sub(graph.mul(sum, sum), squares), 1);
    return graph.reshape(graph.mul(twice, graph.number(0.5)), [1]);
  }

  #crossed(): GraphValue | null {
    const { terms, fields } = this.#plan;
    const { cross } = terms;
    if (cross === undefined) return null;
    const graph = this.#graph;
    const input = graph.reshape(this.#stacked(), [fields.length * this.#width]);
    let crossed = input;
    for (let layer = 0; layer < cross.layerCount; layer += 1) {
      const name = `cross${layer}`;
      const isLow = cross.rank !== undefined;
      const compressed = isLow
        ? graph.matMul(crossed, this.#arrays.shared(`${name}.compress`))
        : crossed;
      const weights = this.#arrays.shared(`${name}.${isLow ? 'expand' : 'weight'}`);
      const factors = graph.add(
        graph.matMul(compressed, weights),
        this.#arrays.bias(`${name}.bias`),
      );
      crossed = graph.add(crossed, graph.mul(input, factors));
    }
    return crossed;
  }

  #tower(crossed: GraphValue | null): GraphValue {
    const graph = this.#graph;
    const { terms, hiddenWidths } = this.#plan;
    let hidden = terms.tower?.over === 'crossed' ? crossed : this.#towerInput();
    if (hidden === null) throw new Error('a tower without an input');
    for (const [layer, width] of hiddenWidths.entries()) {
      const product = this.#layer(hidden, `layer${layer}.weight`, width);
      hidden = graph.relu(graph.add(product, this.#arrays.bias(`layer${layer}.bias`)));
    }
    return hidden;
  }

  #towerInput(): GraphValue {
    const { towerFields, towerProducts } = this.#plan;
    const vectors = towerFields.map((field) => this.#vectorOf(field));
    return this.#graph.concat([...vectors, ...this.#products(towerProducts)]);
  }

  /** `[n, width]`: the input times weights that the block has or that all share. */
  #layer(input: GraphValue, name: string, width: number): GraphValue {
    const graph = this.#graph;
    const inputWidth = at(input.shape, 1) ?? 0;
    if (!this.#arrays.isOwn(name))
      return graph.matMul(input, this.#arrays.shared(name, [inputWidth, width]));
    const weights = graph.reshape(this.#arrays.own(name), [inputWidth, width]);
    const product = graph.matMul(graph.reshape(input, [1, inputWidth]), weights);
    return graph.reshape(product, [width]);
  }

  /** `[n, count]` for each kind of products that there is. */
  #products({ pairs, byField, hasOuter }: ResolvedProducts): GraphValue[] {
    const graph = this.#graph;
    const { fields, factorised } = this.#plan;
    const width = this.#width;
    const products: GraphValue[] = [];
    if (pairs.length > 0) {
      const count = fields.length;
      const all = graph.matMul(this.#stacked(), graph.transpose(this.#stacked()));
      const places = pairs.map(([f, g]) => f * count + g);
      products.push(graph.columns(graph.reshape(all, [count * count]), places));
    }
    if (byField.length > 0) {
      const all = graph.reshape(graph.sum(this.#stacked(), 1), [1, width]);
      const others = graph.sub(all, this.#stacked());
      const each = graph.sum(graph.mul(this.#stacked(), others), 2);
      products.push(graph.columns(each, byField));
    }
    if (hasOuter && factorised.length > 0) {
      const sum = this.#sumOfFields(factorised);
      const outer = graph.mul(graph.reshape(sum, [width, 1]), graph.reshape(sum, [1, width]));
      products.push(graph.reshape(outer, [width * width]));
    }
    return products;
  }

  /** Calibrated: a probability, or a value in its own unit. */
  #expected(logit: GraphValue): GraphValue {
    const graph = this.#graph;
    const { manifest, labels, calibrations } = this.#bundle;
    const byCalibration = (name: string, of: (place: number) => number): GraphValue =>
      this.#arrays.byBlock(
        name,
        calibrations,
        manifest.calibrations.map((_, place) => of(place)),
      );
    const calibrated = graph.add(
      graph.mul(
        logit,
        byCalibration('slope', (place) => at(manifest.calibrations, place).slope),
      ),
      byCalibration('offset', (place) => at(manifest.calibrations, place).offset),
    );
    const byLabel = (
      name: string,
      of: (label: (typeof manifest.labels)[number]) => number,
    ): GraphValue => this.#arrays.byBlock(name, labels, manifest.labels.map(of));
    const probability = graph.sigmoid(calibrated);
    if (manifest.labels.every(({ loss }) => loss === 'binary')) return probability;
    const value = graph.add(
      byLabel('mean', (label) => (label.loss === 'binary' ? 0 : label.mean)),
      graph.mul(
        byLabel('deviation', (label) => (label.loss === 'binary' ? 0 : label.deviation)),
        calibrated,
      ),
    );
    // The mean and deviation of a probability are 0, and so is its value.
    const isProbability = byLabel('isProbability', ({ loss }) => Number(loss === 'binary'));
    return graph.add(graph.mul(isProbability, probability), value);
  }
}

function notCovered(reason: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the model cannot be written for other servers',
    expected: 'a model made of terms, without personal cross layers',
    found: reason,
    cure: 'train a model without it, or rank with the captured graph in a program of your own',
  });
}
