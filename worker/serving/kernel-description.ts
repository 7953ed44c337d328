/** A model as the native kernel is handed it: `native/build-model.cc` reads these words in this order. */

import { at } from '../../shared/base/arrays.js';
import type { BlockEncoding, RankingModel } from '../../shared/bundle/ranking-model.js';
import { elementCountOf } from '../../shared/tensors/named-tensors.js';
import {
  denseOf,
  tablesOf,
  type Products,
  type ScoredField,
  type ScoringPlan,
} from './scoring-plan.js';

type Values = Float32Array | Int32Array | Uint8Array;

interface KernelDescription {
  readonly words: Int32Array;
  /** Referred to by index. */
  readonly arrays: readonly Values[];
}

const NONE = -1;
const ENCODINGS: Readonly<Record<BlockEncoding, number>> = { float32: 0, float16: 1, int8: 2 };
const SOURCES = { ids: 0, bag: 1, number: 2, block: 3 } as const;

export function kernelDescriptionOf(model: RankingModel, plan: ScoringPlan): KernelDescription {
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
    const { embeddingWidth, hasLinear, hasPairTerm, request } = this.#plan;
    const isPadded = this.#model.spec.options.padding === 'trained';
    this.#add(embeddingWidth, embeddingWidth + Number(hasLinear));
    this.#add(Number(hasLinear), Number(hasPairTerm), Number(isPadded));
    this.#add(request.idCounts.context, request.idCounts.candidate);
    this.#add(request.numberCounts.context, request.numberCounts.candidate);
    this.#parts();
    this.#fields();
    this.#blocks();
    this.#layers();
    this.#output();
    this.#shifts();
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
    for (const { name, shape, encoding, byteOffset, scaleByteOffset, scaleCount } of parts) {
      this.#add(
        ENCODINGS[encoding],
        byteOffset,
        scaleByteOffset,
        scaleCount,
        elementCountOf(shape),
      );
      this.#dense(name);
    }
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
    this.#add(layout.strideByteCount, layout.levelByteOffset ?? NONE);
    this.#add(Math.log2(blocksPerShard), blockCount, shards.length);
    for (const shard of shards) this.#array(shard);
    const biasPart = this.#partOf('bias');
    this.#add(biasPart);
    if (biasPart === NONE) this.#dense('bias');
  }

  /** Personal weights of the layers over fields keep their order, in which the context may come late. */
  get #isContextFirst(): boolean {
    const { tower, output } = this.#plan;
    const isPersonal = (name: string): boolean => this.#partOf(name) !== NONE;
    const outputReadsFields =
      output?.hasCrossed === true ||
      (output?.hasTower === true && tower?.hiddenWidths.length === 0);
    return !isPersonal('layer0.weight') && !(outputReadsFields && isPersonal('output.weight'));
  }

  #layers(): void {
    const { tower, cross, fields, embeddingWidth: width } = this.#plan;
    const towerFields = cross === null ? (tower?.input?.fields ?? []) : [...fields.keys()];
    const isContextFirst = this.#isContextFirst;
    const hidden = tower?.hiddenWidths ?? [];
    const readsAll = !isContextFirst || cross !== null || hidden.length === 0;
    this.#list(towerFields);
    this.#add(Number(isContextFirst), Number(readsAll));
    const products = tower?.input?.products;
    this.#products(products);
    const inputCount = towerFields.length * width;
    this.#add(cross?.layerCount ?? 0, cross?.rank ?? 0);
    for (let layer = 0; layer < (cross?.layerCount ?? 0); layer += 1)
      this.#crossLayer(layer, inputCount);
    this.#add(
      Number(tower !== null),
      Number(tower !== null && tower.input === null),
      hidden.length,
    );
    for (const [layer, outCount] of hidden.entries()) {
      const [weight, bias] = [`layer${layer}.weight`, `layer${layer}.bias`];
      this.#add(Number(layer === 0), 0, outCount);
      this.#dense(weight);
      this.#dense(bias);
      this.#add(this.#partOf(weight), this.#partOf(bias));
    }
  }

  #crossLayer(layer: number, inputCount: number): void {
    const { cross } = this.#plan;
    const name = `cross${layer}`;
    const isLow = cross !== null && cross.rank !== null;
    if (isLow) {
      this.#add(1, 0, cross.rank);
      this.#dense(`${name}.compress`);
      this.#add(NONE, NONE, NONE);
    }
    this.#add(Number(!isLow), 1, inputCount);
    this.#dense(`${name}.${isLow ? 'expand' : 'weight'}`);
    this.#dense(`${name}.bias`);
    this.#add(NONE, NONE);
  }

  #output(): void {
    const { output, tower } = this.#plan;
    this.#add(Number(output !== null), Number(output?.hasCrossed === true));
    this.#products(output?.products);
    if (output === null) return;
    const readsFields = output.hasCrossed || (output.hasTower && tower?.hiddenWidths.length === 0);
    this.#add(Number(readsFields));
    this.#dense('output.weight');
    this.#add(this.#partOf('output.weight'));
  }

  #products(products: Products | undefined): void {
    if (products === undefined) {
      this.#add(0, 0, 0);
      return;
    }
    this.#add(products.pairs.length, ...products.pairs.flat());
    this.#list(products.byField);
    this.#add(Number(products.hasOuter));
  }

  #shifts(): void {
    const { shifted } = this.#plan;
    const { effects } = this.#model.blocks;
    this.#add(shifted.length);
    for (const { side, firstPlace } of shifted) this.#add(Number(side === 'context'), firstPlace);
    if (effects === null || shifted.length === 0) return;
    for (const values of [effects.offsets, effects.ids, effects.effects]) this.#array(values);
  }
}
