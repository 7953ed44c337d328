/**
 * The encoder of requests that have one set of context features: what the context has is encoded once,
 * columns of candidates where they lie, straight into the arrays that a scorer reads.
 */

import { at, int32At } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { FeatureEncoder, DerivedNumber } from '../../../shared/features/row-encoder.js';
import type { RawRow } from '../../../shared/features/encoding-rules.js';
import {
  requestLayoutOf,
  type RankingRequest,
  type FeaturePlace,
  type RequestLayout,
} from '../ranking-request.js';
import { valuesOf, type CandidateColumn } from '../candidate-columns.js';
import { valueLookup, type ColumnsAddon, type Places, type ValueLookup } from '../kernel-scorer.js';
import { KEY_SEPARATOR, type RankingBody } from './ranking-body.js';
import { RefusedRequest, refusedValue, type Refusal } from './refused-request.js';

type EncodingBundle = Pick<LoadedBundle, 'manifest' | 'model' | 'encoder'>;

/** Where a feature of a candidate is written: its first place in a row of `ids` or of `numbers`. */
interface PlacedFeature {
  readonly encoder: FeatureEncoder;
  readonly firstPlace: number;
}

type Arrays = Omit<RankingRequest, 'candidateCount' | 'blocks'>;

/** Candidates that the arrays have room for at first. */
const ROOM_MIN = 512;

export class RequestEncoder {
  readonly #bundle: EncodingBundle;
  /** By category feature that reads its texts as they are. */
  readonly #lookups: ReadonlyMap<string, ValueLookup>;
  readonly #ofContext: readonly PlacedFeature[];
  readonly #ofCandidates: readonly PlacedFeature[];
  readonly #layout: ReturnType<typeof requestLayoutOf>;
  readonly #derived: DerivedNumbers;
  #arrays: Arrays;
  #room = ROOM_MIN;

  constructor(
    bundle: EncodingBundle,
    contextFeatures: readonly string[],
    addon: Pick<ColumnsAddon, 'lookUpValues' | 'lookUpBuckets'>,
  ) {
    this.#bundle = bundle;
    this.#lookups = new Map(
      bundle.encoder.features.flatMap(({ name, kind, textIds }): [string, ValueLookup][] =>
        kind === 'category' && textIds !== null ? [[name, valueLookup(addon, textIds)]] : [],
      ),
    );
    this.#layout = requestLayoutOf(bundle.model.spec, contextFeatures);
    const places = new Map(
      [...this.#layout.ids, ...this.#layout.numbers].map((place) => [place.name, place]),
    );
    const featuresOf = (side: 'context' | 'candidate'): PlacedFeature[] =>
      bundle.encoder.features.flatMap((encoder) => {
        const place = places.get(encoder.name);
        return place?.side === side ? [{ encoder, firstPlace: place.firstPlace }] : [];
      });
    this.#ofContext = featuresOf('context');
    this.#ofCandidates = featuresOf('candidate');
    this.#derived = new DerivedNumbers(bundle.encoder.derived, this.#layout);
    this.#arrays = this.#allocate();
  }

  /**
   * The arrays are those of the next request, too.
   *
   * @param blocks of the candidates' adgroups.
   * @param drop leaves a candidate out: a column is missing, or holds what `prepare` rejects.
   * @throws RefusedRequest if that is so of the context.
   */
  encode(body: RankingBody, blocks: Int32Array, drop: DropCandidate): RankingRequest {
    const { candidateCount, context } = body;
    if (candidateCount > this.#room) {
      this.#room = candidateCount;
      this.#arrays = this.#allocate();
    }
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = this.#arrays;
    // prettier-ignore
    const request: RankingRequest = {
      contextIds, candidateIds, contextNumbers, candidateNumbers, candidateCount, blocks,
    };
    if (candidateCount === 0) return request;
    this.#dropWrongKeys(body, drop);
    for (const { encoder, firstPlace } of this.#ofContext)
      try {
        const target = encoder.kind === 'number' ? request.contextNumbers : request.contextIds;
        encoder.encode(encoder.pick(context, context), target, firstPlace);
      } catch (error) {
        throw refusedAt('context', error);
      }
    let rows: readonly RawRow[] | undefined;
    for (const feature of this.#ofCandidates) {
      const { column } = feature.encoder;
      const values = column === null ? null : this.#columnOf(body, column);
      if (values !== null) this.#encodeColumn(feature, values, request, drop);
      else this.#encodeRows(feature, (rows ??= this.#rowsOf(body)), request, drop);
    }
    this.#derived.write(request);
    return request;
  }

  #allocate(): Arrays {
    const { idCounts, numberCounts } = this.#layout;
    return {
      contextIds: new Int32Array(idCounts.context),
      candidateIds: new Int32Array(this.#room * idCounts.candidate),
      contextNumbers: new Float32Array(numberCounts.context),
      candidateNumbers: new Float32Array(this.#room * numberCounts.candidate),
    };
  }

  #dropWrongKeys({ keyTexts }: RankingBody, drop: DropCandidate): void {
    const { taskColumns } = this.#bundle.manifest;
    if (taskColumns.length === 1) return;
    for (const [candidate, key] of (keyTexts() ?? []).entries()) {
      const count = key.split(KEY_SEPARATOR).length;
      if (count === taskColumns.length) continue;
      drop(candidate, {
        ...{ reason: 'wrong-value', what: 'the key of an adgroup has another number of columns' },
        where: `candidate ${candidate}`,
        expected: `a list of ${taskColumns.length} values: ${taskColumns.join(', ')}`,
        found: `${count} values`,
      });
    }
  }

  /** The candidates' column; columns of the adgroup's key need not be there. Null if there is none. */
  #columnOf({ features, adgroups, keyTexts }: RankingBody, name: string): CandidateColumn | null {
    const given = features.get(name);
    const { taskColumns } = this.#bundle.manifest;
    const place = taskColumns.indexOf(name);
    if (place < 0) return given ?? null;
    if (given !== undefined && given.form !== 'values') return given;
    const isWhole = taskColumns.length === 1;
    if (given === undefined && isWhole && adgroups.form === 'texts') return adgroups;
    const keys = keyTexts();
    if (keys === null) return given ?? (isWhole ? adgroups : null);
    const parts = keys.map((key) => (isWhole ? key : (key.split(KEY_SEPARATOR)[place] ?? '')));
    if (given === undefined) return { form: 'values', values: parts };
    const values = given.values.map((value, candidate) =>
      value === undefined ? parts[candidate] : value,
    );
    return { form: 'values', values };
  }

  #encodeColumn(
    feature: PlacedFeature,
    column: CandidateColumn,
    request: RankingRequest,
    drop: DropCandidate,
  ): void {
    const { encoder } = feature;
    const { candidateCount: count } = request;
    const places = this.#placesOf(feature, request);
    const lookup = this.#lookups.get(encoder.name);
    if (lookup !== undefined && column.form === 'texts' && isOfIds(places)) {
      lookup(column, count, places);
      return;
    }
    if (column.form === 'ids' && isOfIds(places)) {
      copyIds(encoder, column.ids, places, drop);
      return;
    }
    const values = valuesOf(column);
    if (values === null) throw needsValues(encoder);
    const { target, first, stride } = places;
    for (let candidate = 0; candidate < count; candidate += 1)
      try {
        const value = values[candidate];
        // Without a value, what an empty row gives says so.
        const picked = value === undefined ? encoder.pick({}, {}) : value;
        encoder.encode(picked, target, first + candidate * stride);
      } catch (error) {
        dropFor(error, candidate, drop);
      }
  }

  /** A feature that an expression computes, or whose column no candidate has. */
  #encodeRows(
    feature: PlacedFeature,
    rows: readonly RawRow[],
    request: RankingRequest,
    drop: DropCandidate,
  ): void {
    const { encoder } = feature;
    const { target, first, stride } = this.#placesOf(feature, request);
    for (const [candidate, row] of rows.entries())
      try {
        encoder.encode(encoder.pick(row, row), target, first + candidate * stride);
      } catch (error) {
        dropFor(error, candidate, drop);
      }
  }

  #placesOf(
    { encoder, firstPlace: first }: PlacedFeature,
    { candidateIds, candidateNumbers }: RankingRequest,
  ): Places<Int32Array | Float32Array> {
    const { idCounts, numberCounts } = this.#layout;
    return encoder.kind === 'number'
      ? { target: candidateNumbers, first, stride: numberCounts.candidate }
      : { target: candidateIds, first, stride: idCounts.candidate };
  }

  /** Whole rows, as `prepare` reads them. */
  #rowsOf(body: RankingBody): readonly RawRow[] {
    const { context, candidateCount, features } = body;
    const { taskColumns } = this.#bundle.manifest;
    const names = new Set([...taskColumns, ...features.keys()]);
    const columns = [...names].flatMap((name) => {
      const column = this.#columnOf(body, name);
      const values = column === null ? null : valuesOf(column);
      return values === null ? [] : [[name, values] as const];
    });
    return Array.from({ length: candidateCount }, (_, candidate) => ({
      ...context,
      ...Object.fromEntries(columns.map(([name, values]) => [name, values[candidate]])),
    }));
  }
}

function isOfIds(places: Places<Int32Array | Float32Array>): places is Places {
  return places.target instanceof Int32Array;
}

function copyIds(
  encoder: FeatureEncoder,
  ids: Int32Array,
  { target, first, stride }: Places,
  drop: DropCandidate,
): void {
  const { name, kind, textIds, dictionary } = encoder;
  if (kind !== 'category' || textIds === null || dictionary === null) throw needsValues(encoder);
  const valueCount = dictionary.offsets.length - 1;
  for (let candidate = 0; candidate < ids.length; candidate += 1) {
    const id = int32At(ids, candidate);
    const isKnown = id >= 0 && id < valueCount;
    if (!isKnown)
      drop(candidate, {
        ...{ reason: 'wrong-value', where: `candidate ${candidate}`, found: String(id) },
        what: `the dictionary of the feature "${name}" has no such id`,
        expected: `0 for an unknown value, or less than ${valueCount}`,
      });
    target[first + candidate * stride] = isKnown ? id : 0;
  }
}

/** Leaves a candidate of the request out. */
type DropCandidate = (candidate: number, refusal: Refusal) => void;

/** Its values of an earlier request stay, and what is scored by them is not answered. */
function dropFor(error: unknown, candidate: number, drop: DropCandidate): void {
  const refused = refusedAt(`candidate ${candidate}`, error);
  if (!(refused instanceof RefusedRequest)) throw refused;
  drop(candidate, refused.refusal);
}

function refusedAt(where: string, error: unknown): unknown {
  return error instanceof QianmoError ? refusedValue(error, where) : error;
}

function needsValues({ name }: FeatureEncoder): RefusedRequest {
  return new RefusedRequest({
    reason: 'wrong-value',
    what: `the feature "${name}" reads a value, of which the request has a hash or an id`,
    cure: 'send the values, as texts or as numbers',
  });
}

/** The features of the context, with the numbers that follow from these alone. */
export function withDerived(
  contextFeatures: readonly string[],
  { derived }: { readonly derived: readonly DerivedNumber[] },
): readonly string[] {
  const ofContext = derived.filter(({ of }) => of.every((name) => contextFeatures.includes(name)));
  return [...contextFeatures, ...ofContext.map(({ name }) => name)];
}

interface PlacedNumber {
  readonly numberOf: DerivedNumber['numberOf'];
  readonly place: FeaturePlace;
  readonly of: readonly FeaturePlace[];
}

class DerivedNumbers {
  readonly #placed: readonly PlacedNumber[];
  readonly #layout: RequestLayout;

  constructor(derived: readonly DerivedNumber[], layout: RequestLayout) {
    this.#layout = layout;
    const placeOf = (places: readonly FeaturePlace[], name: string): FeaturePlace => {
      const found = places.find((place) => place.name === name);
      if (found === undefined) throw new Error(`the model has no feature ${name}`);
      return found;
    };
    this.#placed = derived.map(({ name, of, numberOf }) => ({
      numberOf,
      place: placeOf(layout.numbers, name),
      of: of.map((category) => placeOf(layout.ids, category)),
    }));
  }

  /** Writes them into the arrays of a request whose ids are there. */
  write(request: RankingRequest): void {
    const { idCounts, numberCounts } = this.#layout;
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = request;
    for (const { numberOf, place, of } of this.#placed) {
      const idAt = (category: FeaturePlace | undefined, candidate: number): number => {
        if (category === undefined) return 0;
        return category.side === 'context'
          ? int32At(contextIds, category.firstPlace)
          : int32At(candidateIds, candidate * idCounts.candidate + category.firstPlace);
      };
      const numberAt = (candidate: number): number =>
        numberOf(idAt(at(of, 0), candidate), idAt(of[1], candidate));
      if (place.side === 'context') {
        contextNumbers[place.firstPlace] = numberAt(0);
        continue;
      }
      for (let candidate = 0; candidate < request.candidateCount; candidate += 1)
        candidateNumbers[candidate * numberCounts.candidate + place.firstPlace] =
          numberAt(candidate);
    }
  }
}
