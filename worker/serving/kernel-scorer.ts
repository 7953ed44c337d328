/**
 * The native kernel: the logit of every candidate of a request, the context computed once and blocks
 * read where they lie. `qianmo setup` compiles it from `native/`; it needs no TensorFlow.
 */

import { createRequire } from 'node:module';
import { at } from '../../shared/base/arrays.js';
import { errorOf } from '../../shared/base/errors.js';
import type { BlockEncoding, RankingModel } from '../../shared/bundle/ranking-model.js';
import { hasOutput, outputReadsCrossed } from '../../shared/models/kinds/model-definition.js';
import type { NormalPrior } from '../../shared/methods/inner-loop/inner-loop.js';
import { VARIANCES } from '../../shared/methods/inner-loop/personal-blocks.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { elementCountOf } from '../../shared/tensors/named-tensors.js';
import { supportInputAdder, type RankingRequest } from './ranking-request.js';
import {
  crowdBlocksOf,
  denseOf,
  scoringPlanOf,
  tablesOf,
  type ResolvedProducts,
  type ScoredField,
  type ScoringPlan,
} from './scoring-plan.js';
import type { TextIds } from '../../shared/features/packed-dictionary.js';
import type { TextsColumn } from './candidate-columns.js';

/** An opaque handle; the model is freed with it. */
interface NativeModel {
  readonly isNativeModel: true;
}

/**
 * Files mapped into memory (`native/mapping.cc`). Memory is named by its address, because an array buffer belongs to one
 * thread: the thread that maps and fills a file hands the address to the one that reads it.
 */
interface MappingAddon {
  /** The address of a range that cannot be read until files are mapped into it. */
  reserve(byteCount: number): number;
  /** Maps files one after the other into a reserved range, read-only. Those that do not begin where a page does are read. */
  map(
    address: number,
    capacity: number,
    paths: readonly string[],
    byteCounts: readonly number[],
  ): void;
  /** Brings pages into memory, so that the first request does not wait for the disk. */
  populate(address: number, byteCount: number): void;
  /** An array buffer over the bytes, which does not own them. */
  view(address: number, byteCount: number): ArrayBuffer;
  /** Empties the buffer and its views. */
  detach(buffer: ArrayBuffer): void;
  /** Gives whole pages back; their addresses stay reserved. */
  vacate(address: number, byteCount: number): void;
}

/** The exports of `native/addon.cc`. */
export interface ScoringAddon extends MappingAddon, ColumnsAddon {
  /** The kernels that this machine runs, the fastest first. */
  kernels(): string[];
  /** Reads the arrays where they lie, so that the caller must keep them. */
  create(kernel: string, words: Int32Array, arrays: readonly ArrayBufferView[]): NativeModel;
  /** @returns a status: 0 if all is scored. */
  score(
    model: NativeModel,
    candidateCount: number,
    blocks: Int32Array,
    contextIds: Int32Array,
    candidateIds: Int32Array,
    contextNumbers: Float32Array,
    candidateNumbers: Float32Array,
    logits: Float32Array,
    variances: Float32Array,
  ): number;
  /**
   * Writes the mode and the variances of the posterior of the personal bias and output weights (`shared/tensors/native/posterior.h`).
   *
   * @param numbers 1 for labels that are values; steps; factor of the prior variances; the numbers of the prior.
   * @returns a status, as `score` does.
   */
  adapt(
    model: NativeModel,
    rowCount: number,
    blocks: Int32Array,
    contextIds: Int32Array,
    candidateIds: Int32Array,
    contextNumbers: Float32Array,
    candidateNumbers: Float32Array,
    clicks: Float32Array,
    impressions: Float32Array,
    means: Float32Array,
    precisions: Float32Array,
    fieldWeights: Float32Array,
    numbers: Float64Array,
    mode: Float32Array,
    variances: Float32Array,
  ): number;
  /** Frees the model now. What it read may be unmapped afterwards; scoring with it throws. */
  release(model: NativeModel): void;
}

const NO_VARIANCES = new Float32Array();

const REFUSALS = ['', 'there is no block of this number', 'there is no row of this id'];

/** Loads the addon that `qianmo setup` has compiled. */
export function loadScoringAddon(path: string): ScoringAddon {
  try {
    // Built from the sources beside this file, whose exports the interface repeats.
    return createRequire(import.meta.url)(path) as ScoringAddon;
  } catch (error) {
    throw errorOf('environment', 'the scoring kernel did not load', {
      where: path,
      found: error instanceof Error ? error.message : String(error),
      cure: 'run qianmo setup, which compiles it or says why it cannot',
    });
  }
}

/** Labels of rows, `[rowCount]` each. */
interface RowLabels {
  /** Or, of values, impressions times standardised values. */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
  readonly areValues: boolean;
}

/** The scorer of one model for requests with some features in the context. */
export type Scorer = Pick<KernelScorer, 'score' | 'release'>;

export class KernelScorer {
  readonly #addon: ScoringAddon;
  readonly #native: NativeModel;
  /** Keeps what the native model reads alive. */
  readonly #kept: readonly ArrayBufferView[];
  readonly #withInputs: (request: RankingRequest) => RankingRequest;

  /**
   * @param contextFeatures features that a request has once; the others it has for each candidate.
   * @param kernel one of the addon's `kernels()`; the fastest if absent.
   */
  constructor(
    addon: ScoringAddon,
    model: RankingModel,
    contextFeatures: readonly string[],
    kernel = addon.kernels()[0] ?? 'portable',
  ) {
    const { words, arrays } = kernelDescriptionOf(model, scoringPlanOf(model, contextFeatures));
    this.#addon = addon;
    this.#withInputs = supportInputAdder(model, contextFeatures);
    this.#kept = arrays;
    this.#native = addon.create(kernel, words, arrays);
  }

  /**
   * Writes the logit of each candidate; a standardised value where a block predicts values.
   *
   * @param variances gets those of the logits before they were moderated: 0 where a block has none
   */
  score(given: RankingRequest, logits: Float32Array, variances: Float32Array = NO_VARIANCES): void {
    const request = this.#withInputs(given);
    this.#requireDone(
      this.#addon.score(
        this.#native,
        request.candidateCount,
        request.blocks,
        request.contextIds,
        request.candidateIds,
        request.contextNumbers,
        request.candidateNumbers,
        logits,
        variances,
      ),
    );
  }

  /**
   * The posterior of the personal parameters under a prior: its mode and its variances.
   *
   * @param rows with their support inputs, and a block of zeros each.
   */
  posterior(
    rows: RankingRequest,
    { clicks, impressions, areValues }: RowLabels,
    prior: NormalPrior,
    { innerSteps, innerRate }: Adaptation,
  ): { readonly mode: Float32Array; readonly variances: Float32Array } {
    const { means, precisions, fieldWeights } = prior;
    const mode = new Float32Array(means.length);
    const variances = new Float32Array(means.length);
    const factor = innerSteps === 0 ? 1 : innerRate / prior.innerRate;
    const numbers = [prior.fieldShrinkage, prior.stepLengthMax, prior.precisionMin];
    this.#requireDone(
      this.#addon.adapt(
        this.#native,
        rows.candidateCount,
        rows.blocks,
        rows.contextIds,
        rows.candidateIds,
        rows.contextNumbers,
        rows.candidateNumbers,
        clicks,
        impressions,
        means,
        precisions,
        fieldWeights,
        Float64Array.of(Number(areValues), innerSteps, factor, ...numbers),
        mode,
        variances,
      ),
    );
    return { mode, variances };
  }

  #requireDone(status: number): void {
    if (status !== 0) throw new RangeError(REFUSALS[status] ?? `status ${status}`);
    if (this.#kept.length === 0) throw new Error('a model has arrays');
  }

  /** To be called before the arrays of the model are unmapped, after which it cannot score. */
  release(): void {
    this.#addon.release(this.#native);
  }
}

type Values = Float32Array | Int32Array | Uint8Array;

/** A model as the kernel is handed it: `native/addon.cc` reads these words in this order. */
interface KernelDescription {
  readonly words: Int32Array;
  /** Referred to by index. */
  readonly arrays: readonly Values[];
}

const NONE = -1;
const ENCODINGS: Readonly<Record<BlockEncoding, number>> = { float32: 0, float16: 1 };
const SOURCES = { ids: 0, bag: 1, number: 2, block: 3 } as const;

function kernelDescriptionOf(model: RankingModel, plan: ScoringPlan): KernelDescription {
  const writer = new DescriptionWriter(model, plan);
  writer.writeAll();
  return { words: Int32Array.from(writer.words), arrays: writer.arrays };
}

class DescriptionWriter {
  readonly words: number[] = [];
  readonly arrays: Values[] = [];
  readonly #model: RankingModel;
  readonly #plan: ScoringPlan;
  readonly #partNames: readonly string[];

  constructor(model: RankingModel, plan: ScoringPlan) {
    this.#model = model;
    this.#plan = plan;
    this.#partNames = model.blocks.layout.parts.map(({ name }) => name);
  }

  writeAll(): void {
    const { embeddingWidth, hasLinear, terms, request } = this.#plan;
    const isPadded = this.#model.spec.options.padding === 'trained';
    this.#add(embeddingWidth, embeddingWidth + Number(hasLinear));
    this.#add(Number(hasLinear), Number(terms.hasPairSum === true), Number(isPadded));
    this.#add(request.idCounts.context, request.idCounts.candidate);
    this.#add(request.numberCounts.context, request.numberCounts.candidate);
    this.#parts();
    this.#fields();
    this.#blocks();
    this.#layers();
    this.#output();
    this.#add(this.#partOf(VARIANCES));
    this.#crowds();
  }

  #crowds(): void {
    const { spec } = this.#model;
    const blocks = crowdBlocksOf(this.#model);
    this.#add(Number(blocks !== null));
    if (blocks === null) return;
    const place = spec.categoryFeatures.indexOf(blocks.crowd);
    const { side, firstPlace } = at(this.#plan.request.ids, place);
    this.#add(Number(side === 'context'), firstPlace);
    this.#array(blocks.modes);
    this.#array(blocks.variances);
  }

  #add(...words: readonly number[]): void {
    this.words.push(...words);
  }

  #array(values: Values): void {
    this.#add(this.arrays.push(values) - 1);
  }

  #dense(name: string): void {
    this.#array(denseOf(this.#model, name));
  }

  #partOf(name: string): number {
    return this.#partNames.indexOf(name);
  }

  #list(places: readonly number[]): void {
    this.#add(places.length, ...places);
  }

  #parts(): void {
    const { parts } = this.#model.blocks.layout;
    this.#add(parts.length);
    for (const { shape, encoding, byteOffset } of parts)
      this.#add(ENCODINGS[encoding], byteOffset, elementCountOf(shape));
  }

  #fields(): void {
    const { fields, factorised } = this.#plan;
    this.#add(fields.length);
    for (const [place, field] of fields.entries())
      this.#field(field, Number(factorised.includes(place)));
  }

  #field(field: ScoredField, isFactorised: number): void {
    if (field.source === 'block') {
      this.#add(SOURCES.block, isFactorised, this.#partOf(field.name), Number(field.hasLinear));
      return;
    }
    const { side, firstPlace, placeCount } = field.place;
    const source = field.source === 'number' ? 'number' : field.isBag ? 'bag' : 'ids';
    this.#add(SOURCES[source], isFactorised, Number(side === 'context'), firstPlace, placeCount);
    if (field.source === 'ids') {
      this.#array(at(tablesOf(this.#model), field.table).values);
      return;
    }
    this.#add(field.number);
    for (const name of ['numbers.factors', 'numbers.linear'])
      if (this.#model.dense.has(name)) this.#dense(name);
      else this.#add(NONE);
    this.#add(this.#partOf('numbers.factors'), this.#partOf('numbers.linear'));
  }

  #blocks(): void {
    const { layout, blockCount, blocksPerShard, shards } = this.#model.blocks;
    this.#add(layout.strideByteCount, Math.log2(blocksPerShard), blockCount, shards.length);
    for (const shard of shards) this.#array(shard);
    const biasPart = this.#partOf('bias');
    this.#add(biasPart);
    if (biasPart === NONE) this.#dense('bias');
  }

  /** Personal weights of the layers over fields keep their order, in which the context may come late. */
  get #isContextFirst(): boolean {
    const isPersonal = (name: string): boolean => this.#partOf(name) !== NONE;
    return (
      !isPersonal('layer0.weight') && !(this.#outputReadsFields && isPersonal('output.weight'))
    );
  }

  get #outputReadsFields(): boolean {
    const { terms, hiddenWidths } = this.#plan;
    return outputReadsCrossed(terms) || (terms.tower !== undefined && hiddenWidths.length === 0);
  }

  #layers(): void {
    const { terms, fields, towerFields, towerProducts, embeddingWidth } = this.#plan;
    const { cross, tower } = terms;
    const hidden = tower === undefined ? [] : this.#plan.hiddenWidths;
    const columns =
      cross !== undefined ? [...fields.keys()] : tower === undefined ? [] : towerFields;
    const isContextFirst = this.#isContextFirst;
    const readsAll = !isContextFirst || cross !== undefined || hidden.length === 0;
    this.#list(columns);
    this.#add(Number(isContextFirst), Number(readsAll));
    this.#products(towerProducts);
    this.#add(cross?.layerCount ?? 0, cross?.rank ?? 0);
    for (let layer = 0; layer < (cross?.layerCount ?? 0); layer += 1)
      this.#crossLayer(layer, columns.length * embeddingWidth, cross?.rank);
    this.#add(Number(tower !== undefined), Number(tower?.over === 'crossed'), hidden.length);
    for (const [layer, outCount] of hidden.entries()) {
      const [weight, bias] = [`layer${layer}.weight`, `layer${layer}.bias`];
      this.#add(Number(layer === 0), 0, outCount);
      this.#dense(weight);
      this.#dense(bias);
      this.#add(this.#partOf(weight), this.#partOf(bias));
    }
  }

  #crossLayer(layer: number, inputCount: number, rank: number | undefined): void {
    const name = `cross${layer}`;
    if (rank !== undefined) {
      this.#add(1, 0, rank);
      this.#dense(`${name}.compress`);
      this.#add(NONE, NONE, NONE);
    }
    this.#add(Number(rank === undefined), 1, inputCount);
    this.#dense(`${name}.${rank === undefined ? 'weight' : 'expand'}`);
    this.#dense(`${name}.bias`);
    this.#add(NONE, NONE);
  }

  #output(): void {
    const { terms, weighedProducts } = this.#plan;
    this.#add(Number(hasOutput(terms)), Number(outputReadsCrossed(terms)));
    this.#products(weighedProducts);
    if (!hasOutput(terms)) return;
    this.#add(Number(this.#outputReadsFields));
    this.#dense('output.weight');
    this.#add(this.#partOf('output.weight'));
  }

  #products({ pairs, byField, hasOuter }: ResolvedProducts): void {
    this.#add(pairs.length, ...pairs.flat());
    this.#list(byField);
    this.#add(Number(hasOuter));
  }
}

/** Functions for requests. Arrays are read where they lie, during the call alone. */
export interface ColumnsAddon {
  lookUpValues(
    bytes: Uint8Array,
    spans: Uint32Array,
    dictionaryBytes: Uint8Array,
    dictionaryOffsets: Uint32Array,
    dictionarySlots: Uint32Array,
    count: number,
    target: Int32Array,
    first: number,
    stride: number,
  ): void;
  /**
   * Writes the hash bucket of each text (`hashBucketOf`).
   *
   * @param keepsKnown leaves places as they are that have another id than 0.
   * @param kernel the place of a kernel among `kernels()`.
   */
  lookUpBuckets(
    bytes: Uint8Array,
    spans: Uint32Array,
    buckets: number,
    count: number,
    keepsKnown: boolean,
    target: Int32Array,
    first: number,
    stride: number,
    kernel: number,
  ): void;
  lookUpKeys(
    bytes: Uint8Array,
    spans: Uint32Array,
    indexHashes: Uint32Array,
    indexBlocks: Int32Array,
    keyBytes: Uint8Array,
    keyOffsets: Uint32Array,
    blocks: Int32Array,
    hashes: Uint32Array,
  ): void;
  lookUpHashes(
    words: Uint32Array,
    indexHashes: Uint32Array,
    indexBlocks: Int32Array,
    blocks: Int32Array,
  ): void;
  /**
   * Takes candidates in JSON apart (`native/columns.cc`). Returns the number of columns; -1 for a body that is left to a parser.
   *
   * @param words takes the number of candidates, the start and end of their list, and seven words for each column.
   * @param written takes lists of values.
   * @param textByteCountMax of a text in a column.
   */
  scanBody(
    body: Uint8Array,
    words: Int32Array,
    spans: Uint32Array,
    numbers: Float64Array,
    written: Uint8Array,
    textByteCountMax: number,
    candidateCountMax: number,
  ): number;
  /** Writes numbers as JSON has them, with commas between them, and returns where they end. */
  writeNumbers(
    values: Float64Array | Float32Array | Int32Array,
    out: Uint8Array,
    at: number,
  ): number;
  /**
   * Writes the label of each candidate, and its score by the slope of the label and the offset of its block.
   *
   * @param slopes by label; where there is one, all blocks have label 0, which is not read then.
   * @param areProbabilities whether the sigmoid is taken of what is calibrated.
   */
  calibrate(
    blocks: Int32Array,
    scores: Float32Array,
    offsetsOfBlocks: Float32Array,
    labelsOfBlocks: Int32Array,
    slopes: Float64Array,
    areProbabilities: boolean,
    labels: Int32Array,
    calibrated: Float64Array,
  ): void;
  /**
   * Writes the places of the values that are not below the reserve, from the largest value to the smallest, equal ones as they
   * were. Returns how many there are; -1 less that number where some values are equal.
   */
  order(values: Float64Array, reserve: number, order: Int32Array): number;
}

/** Where numbers are written: that of candidate i at `first + i * stride`. */
export interface Places<Target = Int32Array> {
  readonly target: Target;
  readonly first: number;
  readonly stride: number;
}

/** Writes the id of each of the first `count` texts, 0 for an unknown one and for an empty value. */
export type ValueLookup = (texts: TextsColumn, count: number, places: Places) => void;

export function valueLookup(
  addon: Pick<ColumnsAddon, 'lookUpValues' | 'lookUpBuckets'>,
  { dictionary, buckets }: TextIds,
): ValueLookup {
  return ({ bytes, spans }, count, { target, first, stride }) => {
    const places = [target, first, stride] as const;
    if (dictionary !== null) {
      const known = [dictionary.bytes, dictionary.offsets, dictionary.slots] as const;
      addon.lookUpValues(bytes, spans, ...known, count, ...places);
    }
    if (buckets > 0)
      addon.lookUpBuckets(bytes, spans, buckets, count, dictionary !== null, ...places, 0);
  };
}
