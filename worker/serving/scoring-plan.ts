/**
 * A model's logit as data, for scorers that run without a graph: which fields it has, and which terms
 * are made of them. It follows the formulas in `shared/models/kinds`.
 *
 *   logit = bias + level + effects + linear(x) + pairs + <output, [crossed ; tower ; products]>
 */

import { at } from '../../shared/base/arrays.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import { GENERATED_BLOCK } from '../../shared/methods/inner-loop/generated-block.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  layoutWithSupportInputs,
  type FeaturePlace,
  type RequestLayout,
} from './ranking-request.js';

export type ScoredField =
  | {
      readonly source: 'ids';
      readonly table: number;
      readonly place: FeaturePlace;
      readonly isBag: boolean;
    }
  | {
      readonly source: 'number';
      readonly number: number;
      readonly place: FeaturePlace;
      /** Whether the weights of numbers are in the personal block. */
      readonly isPersonal: boolean;
    }
  | { readonly source: 'block'; readonly name: string; readonly hasLinear: boolean };

/** Products of field vectors, in the order of the weights that read them. */
export interface Products {
  /** <e_f, e_g> */
  readonly pairs: readonly (readonly [f: number, g: number])[];
  /** <e_f, S - e_f> with S the sum over all fields. */
  readonly byField: readonly number[];
  /** T T' with T the sum over the factorised fields. */
  readonly hasOuter: boolean;
}

export interface ScoringPlan {
  readonly fields: readonly ScoredField[];
  /** With the support inputs. */
  readonly request: RequestLayout;
  readonly embeddingWidth: number;
  readonly hasLinear: boolean;
  readonly factorised: readonly number[];
  /** The term sum_{f < g} <e_f, e_g> over the factorised fields. */
  readonly hasPairTerm: boolean;
  readonly cross: { readonly layerCount: number; readonly rank: number | null } | null;
  readonly tower: {
    /** Fields side by side, then products; null: the cross layers' output. */
    readonly input: { readonly fields: readonly number[]; readonly products: Products } | null;
    readonly hiddenWidths: readonly number[];
  } | null;
  readonly output: {
    readonly hasCrossed: boolean;
    readonly hasTower: boolean;
    readonly products: Products;
  } | null;
  /** Ids of the shifted features. */
  readonly shifted: readonly FeaturePlace[];
}

type Terms = Pick<ScoringPlan, 'hasPairTerm' | 'cross' | 'tower' | 'output'>;

const NO_PRODUCTS: Products = { pairs: [], byField: [], hasOuter: false };
const NO_TERMS: Terms = { hasPairTerm: false, cross: null, tower: null, output: null };

/** Models and methods that a plan can say, or the reason why not. */
export type Coverage =
  { readonly isCovered: true } | { readonly isCovered: false; readonly reason: string };

export function coverageOf({ spec }: Pick<RankingModel, 'spec'>): Coverage {
  const reason = reasonAgainst(spec);
  return reason === null ? { isCovered: true } : { isCovered: false, reason };
}

export function scoringPlanOf(
  { spec, blocks }: Pick<RankingModel, 'spec' | 'blocks'>,
  contextFeatures: readonly string[],
): ScoringPlan {
  const reason = reasonAgainst(spec);
  const terms = TERMS[spec.kind];
  if (reason !== null || terms === undefined) throw new Error(reason ?? 'no terms');
  const request = layoutWithSupportInputs(spec, contextFeatures);
  const tableCount = spec.categoryFeatures.length;
  return {
    fields: fieldsOf(spec, request),
    ...{ request, embeddingWidth: spec.embeddingWidth, hasLinear: spec.hasLinear },
    factorised: spec.factorisedPlaces,
    ...terms(spec),
    shifted: (blocks.effects?.features ?? []).map((feature) => {
      const place = request.ids.slice(0, tableCount).find(({ name }) => name === feature);
      if (place === undefined) throw new Error(`the model has no category ${feature}`);
      return place;
    }),
  };
}

function reasonAgainst(spec: ModelSpec): string | null {
  if (TERMS[spec.kind] === undefined) return `the model ${spec.kind} is not built in`;
  if (isPersonal(spec, 'cross'))
    return 'personal cross layers are read by the captured graph alone';
  return null;
}

function isPersonal({ variables }: ModelSpec, prefix: string): boolean {
  return variables.some(({ name, block }) => block === 'personal' && name.startsWith(prefix));
}

function fieldsOf(spec: ModelSpec, { ids, numbers }: RequestLayout): ScoredField[] {
  const generated = spec.variables.some(({ name }) => name === GENERATED_BLOCK)
    ? spec.options.generated
    : undefined;
  return [
    ...ids.map((place, table): ScoredField =>
      place.name === generated && table < spec.categoryFeatures.length
        ? { source: 'block', name: GENERATED_BLOCK, hasLinear: spec.hasLinear }
        : { source: 'ids', table, place, isBag: table >= spec.categoryFeatures.length },
    ),
    ...numbers.map((place, number): ScoredField => ({
      ...{ source: 'number', number, place },
      isPersonal: isPersonal(spec, 'numbers.'),
    })),
    ...(spec.hasAdgroupEmbedding
      ? [{ source: 'block', name: 'adgroupEmbedding', hasLinear: false } as const]
      : []),
  ];
}

const TERMS: Readonly<Record<string, ((spec: ModelSpec) => Terms) | undefined>> = {
  logistic: () => NO_TERMS,
  fm: (spec) =>
    isByField(spec)
      ? { ...NO_TERMS, output: outputOf({ products: byField(spec) }) }
      : { ...NO_TERMS, hasPairTerm: true },
  fwfm: (spec) => ({ ...NO_TERMS, output: outputOf({ products: innerPairs(spec) }) }),
  deepfm: (spec) => ({
    ...NO_TERMS,
    hasPairTerm: !isByField(spec),
    tower: towerOf(spec),
    output: outputOf({
      hasTower: true,
      products: isByField(spec) ? byField(spec) : NO_PRODUCTS,
    }),
  }),
  mlp: towerAlone,
  'wide-deep': towerAlone,
  ipnn: (spec) => towerAlone(spec, isByField(spec) ? byField(spec) : innerPairs(spec)),
  opnn: (spec) => towerAlone(spec, { ...NO_PRODUCTS, hasOuter: true }),
  pnn: (spec) =>
    towerAlone(spec, {
      ...(isByField(spec) ? byField(spec) : innerPairs(spec)),
      hasOuter: true,
    }),
  'dcn-v2': (spec) => {
    const { hiddenWidths, crossLayers = 3, crossRank, crossTower } = spec.options;
    const cross = { layerCount: crossLayers, rank: crossRank ?? null };
    if (hiddenWidths.length === 0)
      return { ...NO_TERMS, cross, output: outputOf({ hasCrossed: true }) };
    if (crossTower === 'stacked')
      return {
        ...{ ...NO_TERMS, cross, tower: { input: null, hiddenWidths } },
        output: outputOf({ hasTower: true }),
      };
    return {
      ...{ ...NO_TERMS, cross, tower: towerOf(spec) },
      output: outputOf({ hasCrossed: true, hasTower: true }),
    };
  },
};

function towerAlone(spec: ModelSpec, products = NO_PRODUCTS): Terms {
  return { ...NO_TERMS, tower: towerOf(spec, products), output: outputOf({ hasTower: true }) };
}

function towerOf(
  { fieldCount, widePlaces, options }: ModelSpec,
  products = NO_PRODUCTS,
): ScoringPlan['tower'] {
  const fields = placesBelow(fieldCount).filter((place) => !widePlaces.includes(place));
  return { input: { fields, products }, hiddenWidths: options.hiddenWidths };
}

function outputOf(
  parts: Partial<NonNullable<ScoringPlan['output']>>,
): NonNullable<ScoringPlan['output']> {
  return { hasCrossed: false, hasTower: false, products: NO_PRODUCTS, ...parts };
}

function isByField({ options }: ModelSpec): boolean {
  return options.interactions === 'by-field';
}

function byField({ factorisedPlaces }: ModelSpec): Products {
  return { ...NO_PRODUCTS, byField: factorisedPlaces };
}

/** Ordered by the kind of g (feature with a table, number, adgroup embedding), then of f, then by place. */
function innerPairs(spec: ModelSpec): Products {
  const tableCount = spec.categoryFeatures.length + spec.bagFeatures.length;
  const kindOf = (place: number): number =>
    place < tableCount ? 0 : place < tableCount + spec.numberFeatures.length ? 1 : 2;
  const places = spec.factorisedPlaces;
  const pairs = places.flatMap((f) =>
    places.filter((g) => f < g).map((g): [number, number] => [f, g]),
  );
  const order = ([f, g]: readonly [number, number]): number => 3 * kindOf(g) + kindOf(f);
  return { ...NO_PRODUCTS, pairs: pairs.sort((a, b) => order(a) - order(b)) };
}

function placesBelow(count: number): number[] {
  return Array.from({ length: count }, (_, place) => place);
}

/** The values of a dense variable. */
export function denseOf({ dense }: Pick<RankingModel, 'dense'>, name: string): Float32Array {
  const values = dense.get(name)?.values;
  if (values === undefined) throw new Error(`the model has no variable ${name}`);
  return values;
}

/** The tables in the order of the spec. */
export function tablesOf({ spec, tables }: Pick<RankingModel, 'spec' | 'tables'>) {
  return spec.tables.map(({ name }) => {
    const table = tables.get(name);
    if (table === undefined) throw new Error(`the model has no table ${name}`);
    return table;
  });
}

/** Whether a field is the same for all candidates of a request. */
export function isOfContext({ fields }: ScoringPlan, field: number): boolean {
  const found = at(fields, field);
  if (found.source === 'block' || (found.source === 'number' && found.isPersonal)) return false;
  return found.place.side === 'context';
}
