/**
 * The inputs of a model's graph: features of the rows, shared variables, and variables of each row's block. The
 * blocks are arrays of the graph: one for each personal variable, `[blockCount, ...]`.
 */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
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
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import {
  arrayOf,
  byteCountOf,
  type GraphArray,
  type GraphValue,
  type OnnxGraph,
} from './onnx-graph.js';

/** The input that says which adgroup a row is of: the number of its block, 0 for an unknown one. */
export const ADGROUP_INPUT = 'adgroup_index';

export class ModelArrays {
  readonly #model: RankingModel;
  readonly #graph: OnnxGraph;
  readonly #features = new Map<string, GraphValue>();
  readonly #own = new Map<string, GraphValue>();
  readonly #shared = new Map<string, GraphValue>();
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

  /** A variable that all adgroups share, in another shape of as many elements if one is given. */
  shared(name: string, shape: readonly number[] = this.tensor(name).shape): GraphValue {
    const known = this.#shared.get(name);
    if (known !== undefined) return known;
    const found = this.#graph.array(arrayOf(`dense/${name}`, shape, this.tensor(name).values));
    this.#shared.set(name, found);
    return found;
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
    const known = this.#shared.get(`tables/${name}`);
    if (known !== undefined) return known;
    const { rowCount, width, values } = table;
    const found = this.#graph.array(arrayOf(`tables/${name}`, [rowCount, width], values));
    this.#shared.set(`tables/${name}`, found);
    return found;
  }

  /** A variable of each row's block, `[n, elements]` in float32. */
  own(name: string): GraphValue {
    const known = this.#own.get(name);
    if (known !== undefined) return known;
    const graph = this.#graph;
    const { values, scales } = blockArraysOf(this.#model.blocks, name);
    const stored = graph.rows(graph.array(values), this.adgroups);
    const found =
      scales === null
        ? values.type === 'float32'
          ? stored
          : graph.toFloat(stored)
        : this.#fromDifferences(name, stored, scales);
    this.#own.set(name, found);
    return found;
  }

  /** int8 stores differences from block 0. */
  #fromDifferences(name: string, stored: GraphValue, scales: GraphArray): GraphValue {
    const graph = this.#graph;
    const count = at(stored.shape, 1) ?? 0;
    const scaleCount = at(scales.shape, 1);
    const steps = graph.reshape(graph.toFloat(stored), [scaleCount, count / scaleCount]);
    const scale = graph.reshape(graph.rows(graph.array(scales), this.adgroups), [scaleCount, 1]);
    const moves = graph.reshape(graph.mul(steps, scale), [count]);
    const initial = graph.array(arrayOf(`unknown/${name}`, [1, count], this.tensor(name).values));
    return graph.add(initial, moves);
  }

  /** What the shifts add to each row, `[n, 1]` each. */
  shifts(): GraphValue[] {
    const graph = this.#graph;
    const level = levelArrayOf(this.#model.blocks);
    return [
      ...(level === null ? [] : [graph.rows(graph.array(level), this.adgroups)]),
      ...effectArraysOf(this.#model.blocks).map((arrays) => this.#ofListedValue(arrays)),
    ];
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

  /** `values` of the place that each row's block has in a list, `[n, 1]`. */
  byBlock(name: string, places: Int32Array, values: readonly number[]): GraphValue {
    const graph = this.#graph;
    const pieces = Float32Array.from(places, (place) => numberAt(values, place));
    return graph.rows(
      graph.array(arrayOf(`blocks/${name}`, [places.length, 1], pieces)),
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

interface BlockArrays {
  readonly values: GraphArray;
  /** `[blockCount, scaleCount]`, of int8; null otherwise. */
  readonly scales: GraphArray | null;
}

/** @throws Error if the blocks have no such variable. */
function blockArraysOf(blocks: PersonalBlocks, name: string): BlockArrays {
  const part = blocks.layout.parts.find((each) => each.name === name);
  if (part === undefined) throw new Error(`blocks have no variable ${name}`);
  const { encoding, byteOffset, scaleByteOffset, scaleCount, shape } = part;
  const count = shape.reduce((product, extent) => product * extent, 1);
  return {
    values: fieldOf(blocks, { name: `blocks/${name}`, type: encoding, count, byteOffset }),
    scales:
      encoding === 'int8'
        ? fieldOf(blocks, {
            ...{ name: `blocks/${name}.scale`, type: 'float32', count: scaleCount },
            byteOffset: scaleByteOffset,
          })
        : null,
  };
}

/** `[blockCount, 1]`; null where no shift follows the inner steps. */
function levelArrayOf(blocks: PersonalBlocks): GraphArray | null {
  const byteOffset = blocks.layout.levelByteOffset;
  if (byteOffset === null) return null;
  return fieldOf(blocks, { name: 'blocks/level', type: 'float32', count: 1, byteOffset });
}

interface BlockField {
  readonly name: string;
  readonly type: BlockEncoding;
  readonly count: number;
  /** In every block. */
  readonly byteOffset: number;
}

function fieldOf(
  { layout, shards, blocksPerShard, blockCount }: PersonalBlocks,
  { name, type, count, byteOffset }: BlockField,
): GraphArray {
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
  return { name, type, shape: [blockCount, count], pieces };
}

/** The shifts that values of a category add to a row, by block: lists of one length. */
interface ListArrays {
  readonly feature: string;
  /** `[blockCount, lengthMax]`, -1 in empty places. */
  readonly ids: GraphArray;
  /** `[blockCount, lengthMax]`, 0 in empty places. */
  readonly values: GraphArray;
}

/** Features whose lists are all empty are left out. */
function effectArraysOf({ effects, blockCount }: PersonalBlocks): ListArrays[] {
  if (effects === null) return [];
  return listArraysOf('effects', effects, { blockCount, values: effects.effects });
}

/**
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
