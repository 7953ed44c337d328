/**
 * The graph of a bundle's model, for programs that know nothing of qianmo: encoded features and the
 * adgroup's number in, score and expected value out. It follows the plan that the scorers follow.
 */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import {
  MODERATED_LOGIT_MAX,
  NORMAL_NODES,
  NORMAL_WEIGHTS,
} from '../../../shared/methods/inner-loop/moderated-logit.js';
import { VARIANCES } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { hasOutput, outputReadsCrossed } from '../../../shared/models/kinds/model-definition.js';
import {
  crowdBlocksOf,
  requireCovered,
  scoringPlanOf,
  type ResolvedProducts,
  type ScoredField,
  type ScoringPlan,
} from '../scoring-plan.js';
import { OnnxGraph, type GraphValue, arrayOf, byteCountOf, type GraphArray } from './onnx-graph.js';
import type {
  BlockEncoding,
  PersonalBlocks,
  RankingModel,
  ValueLists,
} from '../../../shared/bundle/ranking-model.js';
import {
  supportFormulasOf,
  supportInputNames,
  type SupportFormulas,
  type SupportInputs,
} from '../../../shared/models/kinds/support-inputs.js';
import { elementCountOf, type DenseTensor } from '../../../shared/tensors/named-tensors.js';

type ConvertedBundle = Pick<LoadedBundle, 'model' | 'labels' | 'offsets'> & {
  readonly manifest: Pick<LoadedBundle['manifest'], 'labels' | 'calibrations'>;
};

/** @throws QianmoError of kind `usage` if the model is one that no graph of these operations says. */
export function modelGraphOf(bundle: ConvertedBundle): OnnxGraph {
  requireCovered(bundle.model, 'the bundle');
  requireNoCrowds(bundle.model);
  return new ModelGraphWriter(bundle).graph();
}

function requireNoCrowds(model: RankingModel): void {
  const blocks = crowdBlocksOf(model);
  if (blocks === null) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'blocks of crowds are not converted',
    where: 'the bundle',
    expected: 'a bundle without blocks of crowds',
    found: `those of ${blocks.crowd}`,
    cure: 'serve it with qianmo serve, or train without method.crowd',
  });
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
      if (pieces.length > 0) {
        const input = this.#graph.concat(pieces);
        terms.push(this.#layer(input, 'output.weight', 1));
        return this.#moderated(this.#sumOf(terms), input);
      }
    }
    return this.#moderated(this.#sumOf(terms), null);
  }

  /** The logit of the expected probability where blocks have variances, by the nodes of `moderated-logit.ts`. */
  #moderated(logit: GraphValue, outputInput: GraphValue | null): GraphValue {
    const graph = this.#graph;
    if (!this.#arrays.isOwn(VARIANCES)) return logit;
    const slopes = graph.concat([
      ...(this.#arrays.isOwn('bias') ? [this.#ones()] : []),
      ...(this.#arrays.isOwn('output.weight') && outputInput !== null ? [outputInput] : []),
    ]);
    const terms = graph.mul(graph.mul(slopes, slopes), this.#arrays.own(VARIANCES));
    const deviation = graph.sqrt(graph.reshape(graph.sum(terms, 1), [1]));
    const row = [1, NORMAL_NODES.length];
    const nodes = graph.mul(deviation, graph.constant(Float32Array.from(NORMAL_NODES), row));
    const weights = graph.constant(Float32Array.from(NORMAL_WEIGHTS), row);
    const [zero, lowest] = [graph.number(0), graph.number(-MODERATED_LOGIT_MAX)];
    const below = graph.max(logit, lowest);
    const inner = graph.sub(zero, graph.max(graph.sub(zero, below), lowest));
    const atNodes = graph.add(inner, nodes);
    const expected = (z: GraphValue): GraphValue => {
      const probabilities = graph.mul(graph.sigmoid(z), weights);
      return graph.log(graph.reshape(graph.sum(probabilities, 1), [1]));
    };
    const odds = graph.sub(expected(atNodes), expected(graph.sub(zero, atNodes)));
    return graph.add(graph.sub(logit, inner), odds);
  }

  #sumOf(terms: readonly GraphValue[]): GraphValue {
    const graph = this.#graph;
    const sum = terms.reduce((total, term) => graph.add(total, term));
    if (at(sum.shape, 0) === null) return sum;
    // A model without any term of its own rows still has a row for each.
    return graph.add(graph.sub(this.#ones(), graph.number(1)), sum);
  }

  /** `[n, 1]` */
  #ones(): GraphValue {
    const graph = this.#graph;
    const zeros = graph.mul(graph.toFloat(this.#arrays.adgroups), graph.number(0));
    return graph.reshape(graph.add(zeros, graph.number(1)), [1]);
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
    const { manifest, labels, offsets } = this.#bundle;
    const byLabel = (
      name: string,
      of: (label: (typeof manifest.labels)[number], place: number) => number,
    ): GraphValue => {
      const values = manifest.labels.map(of);
      return this.#arrays.byBlock(
        name,
        Float32Array.from(labels, (place) => numberAt(values, place)),
      );
    };
    const slopes = byLabel('slope', (_, place) => at(manifest.calibrations, place).slope);
    const calibrated = graph.add(
      graph.mul(logit, slopes),
      this.#arrays.byBlock('offset', Float32Array.from(offsets)),
    );
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

/** The input that says which adgroup a row is of: the number of its block, 0 for an unknown one. */
export const ADGROUP_INPUT = 'adgroup_index';

class ModelArrays {
  readonly #model: RankingModel;
  readonly #graph: OnnxGraph;
  readonly #features = new Map<string, GraphValue>();
  /** Values that several parts of the graph read. */
  readonly #made = new Map<string, GraphValue>();
  readonly #support: SupportArrays | null;
  readonly adgroups: GraphValue;

  /** @throws QianmoError of kind `usage` if a feature has the name of the adgroup's input. */
  constructor(model: RankingModel, graph: OnnxGraph) {
    this.#model = model;
    this.#graph = graph;
    this.adgroups = graph.input(ADGROUP_INPUT, 'int32', [null]);
    const { categoryFeatures, bagFeatures, numberFeatures } = model.spec;
    const add = (name: string, type: 'int32' | 'float32', rest: readonly number[]): void => {
      if (name === ADGROUP_INPUT) throw sameName(name);
      this.#features.set(name, graph.input(name, type, [null, ...rest]));
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
    const graph = this.#graph;
    const given = this.#features.get(name);
    if (given !== undefined) return graph.reshape(given, [1]);
    const ofBlock = this.#support?.ofBlocks.get(name);
    if (ofBlock !== undefined) return graph.rows(graph.array(ofBlock), this.adgroups);
    const ofValue = this.#support?.ofValues.find(
      ({ feature }) => name === `support.target.${feature}`,
    );
    // No block has seen any value of the feature.
    if (ofValue === undefined) return graph.constant(Float32Array.of(0), [1, 1]);
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

  #once(name: string, make: () => GraphValue): GraphValue {
    const value = this.#made.get(name) ?? make();
    this.#made.set(name, value);
    return value;
  }

  /** A variable that all adgroups share, in another shape of as many elements if one is given. */
  shared(name: string, shape: readonly number[] = this.tensor(name).shape): GraphValue {
    return this.#once(`dense/${name}`, () =>
      this.#graph.array(arrayOf(`dense/${name}`, shape, this.tensor(name).values)),
    );
  }

  /** A variable to be added to rows, `[n, elements]` or `[1, elements]`. */
  bias(name: string): GraphValue {
    if (this.isOwn(name)) return this.own(name);
    return this.shared(name, [1, this.tensor(name).values.length]);
  }

  /** `[rowCount, rowWidth]` */
  table(name: string): GraphValue {
    const table = this.#model.tables.get(name);
    if (table === undefined) throw new Error(`the model has no table ${name}`);
    const { rowCount, width, values } = table;
    return this.#once(`tables/${name}`, () =>
      this.#graph.array(arrayOf(`tables/${name}`, [rowCount, width], values)),
    );
  }

  /** A variable of each row's block, `[n, elements]` in float32. */
  own(name: string): GraphValue {
    return this.#once(`blocks/${name}`, () => this.#decode(name));
  }

  #decode(name: string): GraphValue {
    const part = this.#model.blocks.layout.parts.find((each) => each.name === name);
    if (part === undefined) throw new Error(`blocks have no variable ${name}`);
    const { encoding, byteOffset, shape } = part;
    const stored = this.#field(`blocks/${name}`, encoding, elementCountOf(shape), byteOffset);
    return encoding === 'float32' ? stored : this.#graph.toFloat(stored);
  }

  /** Values that every block has at a place, for each row's block: `[n, count]`. */
  #field(name: string, type: BlockEncoding, count: number, byteOffset: number): GraphValue {
    const { layout, shards, blocksPerShard, blockCount } = this.#model.blocks;
    const byteCount = byteCountOf({ type, shape: [count] });
    function* pieces(): Iterable<Uint8Array> {
      for (let start = 0; start < blockCount; start += BLOCKS_PER_PIECE) {
        const end = Math.min(blockCount, start + BLOCKS_PER_PIECE);
        const piece = new Uint8Array((end - start) * byteCount);
        for (let block = start; block < end; block += 1) {
          const shard = at(shards, Math.floor(block / blocksPerShard));
          const first = (block % blocksPerShard) * layout.strideByteCount + byteOffset;
          piece.set(shard.subarray(first, first + byteCount), (block - start) * byteCount);
        }
        yield piece;
      }
    }
    const array = this.#graph.array({ name, type, shape: [blockCount, count], pieces });
    return this.#graph.rows(array, this.adgroups);
  }

  /** At most one place of a list has the row's value. */
  #ofListedValue({ feature, ids, values }: ListArrays): GraphValue {
    const graph = this.#graph;
    const own = graph.rows(graph.array(ids), this.adgroups);
    const wanted = graph.reshape(this.feature(feature), [1]);
    const isWanted = graph.compare('Equal', own, wanted);
    const listed = graph.rows(graph.array(values), this.adgroups);
    return graph.reshape(graph.sum(graph.mul(isWanted, listed), 1), [1]);
  }

  /** The value of each row's block, `[n, 1]`. */
  byBlock(name: string, values: Float32Array): GraphValue {
    const graph = this.#graph;
    return graph.rows(
      graph.array(arrayOf(`blocks/${name}`, [values.length, 1], values)),
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

/** Blocks of one piece. */
const BLOCKS_PER_PIECE = 4_096;

/** Numbers of the values of a category, by block: lists of one length. */
interface ListArrays {
  readonly feature: string;
  /** `[blockCount, lengthMax]`, -1 in empty places. */
  readonly ids: GraphArray;
  /** `[blockCount, lengthMax]`, 0 in empty places. */
  readonly values: GraphArray;
}

/**
 * Features whose lists are all empty are left out.
 *
 * @param group names the arrays.
 * @param of a value for each entry of the lists.
 */
function listArraysOf(
  group: string,
  lists: ValueLists,
  of: { readonly blockCount: number; readonly values: Float32Array },
): ListArrays[] {
  return lists.features.flatMap((feature, place) => {
    const spans = spansOf(lists, place, of.blockCount);
    if (spans.lengthMax === 0) return [];
    const name = `${group}/${feature}`;
    const emptyIds = (length: number): Int32Array => new Int32Array(length).fill(-1);
    return {
      feature,
      ids: paddedArray(`${name}.ids`, spans, emptyIds, lists.ids),
      values: paddedArray(name, spans, (length) => new Float32Array(length), of.values),
    };
  });
}

/** The support inputs of a model, which the evidence of a block decides. */
interface SupportArrays {
  /** `[blockCount, 1]` each, by name. */
  readonly ofBlocks: ReadonlyMap<string, GraphArray>;
  /** Target encodings; 0 for a value that a block has not seen. */
  readonly ofValues: readonly ListArrays[];
}

function supportArraysOf(blocks: PersonalBlocks, inputs: SupportInputs): SupportArrays {
  const { blockCount, evidence, isOfValues } = blocks;
  const [ofClicks, ofValues] = [supportFormulasOf(inputs, false), supportFormulasOf(inputs, true)];
  const formulasOf = (block: number): SupportFormulas =>
    at(isOfValues, block) === 1 ? ofValues : ofClicks;
  const meanOf = (block: number): number =>
    formulasOf(block).meanOf({
      clicks: at(evidence.clicks, block),
      impressions: at(evidence.impressions, block),
    });
  const column = (of: (block: number) => number): Float32Array =>
    Float32Array.from({ length: blockCount }, (_, block) => of(block));
  const rates = column((block) => formulasOf(block).clickRate(meanOf(block)));
  const counts = column((block) => formulasOf(block).count(at(evidence.impressions, block)));
  const { byValue } = evidence;
  return {
    ofBlocks: new Map([
      ['support.clickRate', arrayOf('support/clickRate', [blockCount, 1], rates)],
      ['support.count', arrayOf('support/count', [blockCount, 1], counts)],
    ]),
    ofValues:
      byValue === null
        ? []
        : listArraysOf('support/target', byValue, {
            blockCount,
            values: encodedValues(byValue, (block, entry) => {
              const sums = {
                clicks: at(byValue.clicks, entry),
                impressions: at(byValue.impressions, entry),
              };
              return formulasOf(block).targetEncoding(sums, meanOf(block));
            }),
          }),
  };
}

function encodedValues(
  { offsets, features, ids }: ValueLists,
  of: (block: number, entry: number) => number,
): Float32Array {
  const values = new Float32Array(ids.length);
  for (let list = 0; list < offsets.length - 1; list += 1)
    for (let entry = at(offsets, list); entry < at(offsets, list + 1); entry += 1)
      values[entry] = of(Math.floor(list / features.length), entry);
  return values;
}

interface ListSpans {
  readonly blockCount: number;
  readonly lengthMax: number;
  readonly spanOf: (block: number) => readonly [start: number, end: number];
}

function spansOf({ offsets, features }: ValueLists, place: number, blockCount: number): ListSpans {
  const spanOf = (block: number): [number, number] => {
    const list = block * features.length + place;
    return [at(offsets, list), at(offsets, list + 1)];
  };
  let lengthMax = 0;
  for (let block = 0; block < blockCount; block += 1) {
    const [start, end] = spanOf(block);
    lengthMax = Math.max(lengthMax, end - start);
  }
  return { blockCount, lengthMax, spanOf };
}

function paddedArray<Values extends Int32Array | Float32Array>(
  name: string,
  { blockCount, lengthMax, spanOf }: ListSpans,
  empty: (length: number) => Values,
  values: Values,
): GraphArray {
  function* pieces(): Iterable<Uint8Array> {
    for (let start = 0; start < blockCount; start += BLOCKS_PER_PIECE) {
      const end = Math.min(blockCount, start + BLOCKS_PER_PIECE);
      const piece = empty((end - start) * lengthMax);
      for (let block = start; block < end; block += 1)
        piece.set(values.subarray(...spanOf(block)), (block - start) * lengthMax);
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    }
  }
  const type = values instanceof Int32Array ? 'int32' : 'float32';
  return { name, type, shape: [blockCount, lengthMax], pieces };
}
