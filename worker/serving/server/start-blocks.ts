/**
 * Blocks of adgroups that a bundle does not know, where they follow from what a request says of each: its segment, and the
 * attributes that the method's start reads. Without either, block 0 is the block of them all.
 */

import { at, float32At, int32At } from '../../../shared/base/arrays.js';
import { blockBytes, readBlock } from '../../../shared/bundle/block-codec.js';
import { NO_EVIDENCE, offsetOf } from '../../../shared/bundle/calibration.js';
import { keyHashOf, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { AttributeStart } from '../../../shared/methods/inner-loop/inner-loop.js';
import { personalVariables } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { supportSumsOf } from '../../../shared/bundle/support-rows.js';
import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';
import { valuesOf } from '../candidate-columns.js';
import type { Scorer } from '../kernel-scorer.js';
import { requestLayoutOf, type FeaturePlace, type RankingRequest } from '../ranking-request.js';
import { supportTaskOf, type KernelAdapter, type LabelledRows } from './kernel-adapter.js';
import { LiveBlocks, type LiveCandidates, type LiveNotes } from './live-blocks.js';
import type { RankingBody } from './ranking-body.js';

/** Combinations of a segment and attributes that are kept; beyond them all are made again. */
const STARTS_MAX = 16_384;

type ScorerOf = (model: RankingModel, contextFeatures: readonly string[]) => Scorer;
/** The output of the scorer, for all candidates. */
interface ScoredCandidates {
  readonly blocks: Int32Array;
  readonly scores: Float32Array;
  readonly variances: Float32Array;
}

type Hash = readonly [low: number, high: number];

export class StartBlocks {
  readonly #loaded: LoadedBundle;
  readonly #adapter: () => KernelAdapter | null;
  readonly #scorerOf: ScorerOf;
  readonly #start: AttributeStart | null;
  readonly #segmentColumn: string | null;
  #blocks: LiveBlocks;
  readonly #made = new Set<string>();
  /** Of the last request, by place. */
  #last = new Map<number, Hash>();

  constructor(loaded: LoadedBundle, adapter: () => KernelAdapter | null, scorerOf: ScorerOf) {
    const { manifest, model } = loaded;
    this.#loaded = loaded;
    this.#adapter = adapter;
    this.#scorerOf = scorerOf;
    this.#start = methodPlanOf(manifest.method).innerLoop.attributeStart ?? null;
    this.#segmentColumn = manifest.labels.length > 1 ? (manifest.segmentColumn ?? null) : null;
    this.#blocks = new LiveBlocks(model, scorerOf);
  }

  /**
   * Writes the scores and variances of unknown adgroups over those of block 0. Null if all have that block.
   *
   * @param contextFeatures of the request.
   */
  score(
    body: RankingBody,
    request: RankingRequest,
    contextFeatures: readonly string[],
    estimates: ScoredCandidates,
  ): LiveCandidates | null {
    this.#last = new Map();
    if (this.#start === null && this.#segmentColumn === null) return null;
    const unknown = [...estimates.blocks.keys()].filter(
      (candidate) => int32At(estimates.blocks, candidate) === UNKNOWN_BLOCK,
    );
    if (unknown.length === 0) return null;
    if (this.#made.size + unknown.length > STARTS_MAX) this.#forget();
    const labelOf = this.#labelsIn(body);
    const attributes = new RequestAttributes(this.#loaded, this.#start?.attributes ?? [], {
      ...{ request, contextFeatures },
    });
    const hashes = new Uint32Array(2 * request.candidateCount);
    for (const candidate of unknown) {
      const label = labelOf(candidate);
      const key = `${label ?? ''} ${attributes.textOf(candidate)}`;
      const { low, high } = keyHashOf(Buffer.from(key));
      hashes.set([low, high], 2 * candidate);
      this.#last.set(candidate, [low, high]);
      if (this.#made.has(key)) continue;
      this.#made.add(key);
      this.#put([low, high], label ?? 0, attributes.valuesOf(candidate));
    }
    return this.#blocks.score(request, contextFeatures, { ...estimates, hashes });
  }

  /** The model and block that score an unknown adgroup of the last request. Null if it is block 0. */
  scoredBy(place: number): ReturnType<LiveBlocks['scoredBy']> {
    const hash = this.#last.get(place);
    return hash === undefined ? null : this.#blocks.scoredBy(hash);
  }

  release(): void {
    this.#blocks.release();
  }

  #forget(): void {
    this.#blocks.release();
    this.#blocks = new LiveBlocks(this.#loaded.model, this.#scorerOf);
    this.#made.clear();
  }

  /** The label of each candidate's segment; null where the request names none that the bundle has. */
  #labelsIn({ context, features }: RankingBody): (candidate: number) => number | null {
    const name = this.#segmentColumn;
    if (name === null) return () => null;
    const { labels } = this.#loaded.manifest;
    const column = features.get(name);
    const values = column === undefined ? null : valuesOf(column);
    return (candidate) => {
      const segment = values === null ? context[name] : values[candidate];
      const label = labels.findIndex((each) => each.segment === segment);
      return label < 0 ? null : label;
    };
  }

  #put(hash: Hash, label: number, attributes: Float32Array): void {
    const { model, manifest, encoder } = this.#loaded;
    const { loss } = at(manifest.labels, label);
    const empty = new Float32Array();
    const nobody: LabelledRows = {
      ...{ rows: encoder.allocate(0), loss, clicks: empty, impressions: empty },
    };
    const own = this.#start?.blocksOf(
      model.dense,
      personalVariables(model.spec).map(({ name }) => name),
      attributes,
    );
    const variables = new Map([...this.#initial(nobody), ...(own ?? [])]);
    const support = supportSumsOf(model.spec, supportTaskOf(nobody));
    this.#blocks.put(hash, { variables, loss, support }, this.#notesOf(label));
  }

  /** What all unknown adgroups of a label start from. */
  #initial(nobody: LabelledRows): NamedTensors {
    const { blocks } = this.#loaded.model;
    return (
      this.#adapter()?.adapted(nobody, { innerRate: 1, innerSteps: 0 }).blocks ??
      readBlock(blocks.layout, blockBytes(blocks, UNKNOWN_BLOCK))
    );
  }

  #notesOf(label: number): LiveNotes {
    const { calibrations, labels } = this.#loaded.manifest;
    const offset = offsetOf(at(calibrations, label), at(labels, label).loss, NO_EVIDENCE);
    return { label, offset, supportRows: 0, ...NO_EVIDENCE };
  }
}

interface AttributePlace extends FeaturePlace {
  readonly isNumber: boolean;
}

/** Embeds some features of candidates, as training does (`worker/compute/models/fields.ts`). */
class RequestAttributes {
  readonly #model: RankingModel;
  readonly #request: RankingRequest;
  readonly #places: readonly AttributePlace[];
  readonly #counts: ReturnType<typeof requestLayoutOf>;

  constructor(
    { model }: Pick<LoadedBundle, 'model'>,
    names: readonly string[],
    {
      request,
      contextFeatures,
    }: { readonly request: RankingRequest; readonly contextFeatures: readonly string[] },
  ) {
    this.#model = model;
    this.#request = request;
    this.#counts = requestLayoutOf(model.spec, contextFeatures);
    const { ids, numbers } = this.#counts;
    this.#places = names.map((name) => {
      const ofIds = ids.find((place) => place.name === name);
      const place = ofIds ?? numbers.find((each) => each.name === name);
      if (place === undefined) throw new Error(`the model has no feature ${name}`);
      return { ...place, isNumber: ofIds === undefined };
    });
  }

  /** Equal for candidates whose attributes are equal. */
  textOf(candidate: number): string {
    return this.#places
      .map((place) => Array.from(this.#encoded(place, candidate)).join())
      .join(';');
  }

  /** `[sum of widths]` */
  valuesOf(candidate: number): Float32Array {
    const { tableRowWidth: width, numberFeatures, options } = this.#model.spec;
    const values = new Float32Array(this.#places.length * width);
    const add = (from: Float32Array, start: number, field: number, share: number): void => {
      for (let place = 0; place < width; place += 1)
        values[field * width + place] =
          float32At(values, field * width + place) + share * float32At(from, start + place);
    };
    for (const [field, place] of this.#places.entries()) {
      const encoded = this.#encoded(place, candidate);
      if (place.isNumber) {
        const row = this.#numberRow(numberFeatures.indexOf(place.name));
        add(row, 0, field, at(encoded, 0));
        continue;
      }
      const table = this.#model.tables.get(place.name);
      if (table === undefined) throw new Error(`the model has no table ${place.name}`);
      // Empty places of bags count where padding is trained, as the last row of the table.
      const padding = options.padding === 'trained' ? table.rowCount - 1 : null;
      const rows = Array.from(encoded).flatMap((id) => (id >= 0 ? [id] : (padding ?? [])));
      for (const row of rows) add(table.values, row * width, field, 1 / rows.length);
    }
    return values;
  }

  /** Ids, or a number. */
  #encoded(
    { side, firstPlace, placeCount, isNumber }: AttributePlace,
    candidate: number,
  ): ArrayLike<number> {
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = this.#request;
    const counts = isNumber ? this.#counts.numberCounts : this.#counts.idCounts;
    const first = side === 'context' ? firstPlace : candidate * counts.candidate + firstPlace;
    const ofContext = isNumber ? contextNumbers : contextIds;
    const ofCandidates = isNumber ? candidateNumbers : candidateIds;
    return (side === 'context' ? ofContext : ofCandidates).subarray(first, first + placeCount);
  }

  /** The factors of a number, then its linear weight. */
  #numberRow(number: number): Float32Array {
    const { spec, dense } = this.#model;
    const parts = ['numbers.factors', 'numbers.linear'].flatMap((name) => {
      const values = dense.get(name)?.values;
      if (values === undefined) return [];
      const width = values.length / spec.numberFeatures.length;
      return [...values.subarray(number * width, (number + 1) * width)];
    });
    return Float32Array.from(parts);
  }
}
