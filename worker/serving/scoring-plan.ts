/**
 * The terms of a model (`shared/models/kinds/model-terms.ts`) resolved for one spec and layout of requests.
 * The kernel and the ONNX writer interpret this plan.
 *
 *   logit = bias + linear(x) + pair sum + <output, [crossed ; tower ; products]>
 */

import { errorOf } from '../../shared/base/errors.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import {
  CROWD_MODES,
  CROWD_VARIANCES,
  GENERATED_BLOCK,
} from '../../shared/methods/inner-loop/personal-blocks.js';
import type { ModelTerms, Products } from '../../shared/models/kinds/model-definition.js';
import { MODELS } from '../../shared/models/kinds/models.js';
import { factorisedPairs, type ModelSpec } from '../../shared/models/model-spec.js';
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
      /** True if the weights of numbers are in the personal block. */
      readonly isPersonal: boolean;
    }
  | { readonly source: 'block'; readonly name: string; readonly hasLinear: boolean };

/** Products of field vectors, in the order of the weights that read them. */
export interface ResolvedProducts {
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
  readonly terms: ModelTerms;
  readonly hiddenWidths: readonly number[];
  /** A tower over fields reads these side by side, then the products. */
  readonly towerFields: readonly number[];
  readonly towerProducts: ResolvedProducts;
  /** Products that the output layer reads last. */
  readonly weighedProducts: ResolvedProducts;
}

/** Returns whether the model is made of terms that a plan has. */
export function isCovered({ spec }: Pick<RankingModel, 'spec'>): boolean {
  return reasonAgainst(spec) === null;
}

/** @throws QianmoError of kind `usage` if the model can neither be served nor converted. */
export function requireCovered(model: Pick<RankingModel, 'spec'>, where: string): void {
  const reason = reasonAgainst(model.spec);
  if (reason === null) return;
  throw errorOf('usage', 'models of this kind are neither served nor converted', {
    where,
    expected: 'a model made of terms, without personal cross layers',
    found: reason,
    cure: 'train a model that is made of terms',
  });
}

export function scoringPlanOf(
  { spec }: Pick<RankingModel, 'spec'>,
  contextFeatures: readonly string[],
): ScoringPlan {
  const reason = reasonAgainst(spec);
  const terms = MODELS.get(spec.kind).terms?.(spec.options);
  if (reason !== null || terms === undefined) throw new Error(reason ?? 'no terms');
  const request = layoutWithSupportInputs(spec, contextFeatures);
  return {
    fields: fieldsOf(spec, request),
    ...{ request, embeddingWidth: spec.embeddingWidth, hasLinear: spec.hasLinear },
    factorised: spec.factorisedPlaces,
    ...{ terms, hiddenWidths: spec.options.hiddenWidths },
    towerFields: Array.from({ length: spec.fieldCount }, (_, place) => place).filter(
      (place) => !spec.widePlaces.includes(place),
    ),
    towerProducts: productsOf(spec, terms.tower?.products),
    weighedProducts: productsOf(spec, terms.weighed),
  };
}

function reasonAgainst(spec: ModelSpec): string | null {
  if (MODELS.get(spec.kind).terms === undefined)
    return `the model ${spec.kind} has a forward pass of its own`;
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

function productsOf(spec: ModelSpec, { inner, outer = false }: Products = {}): ResolvedProducts {
  return {
    pairs: inner === 'pairs' ? factorisedPairs(spec) : [],
    byField: inner === 'by-field' ? spec.factorisedPlaces : [],
    hasOuter: outer,
  };
}

/** The values of a dense variable. */
export function denseOf({ dense }: Pick<RankingModel, 'dense'>, name: string): Float32Array {
  const values = dense.get(name)?.values;
  if (values === undefined) throw new Error(`the model has no variable ${name}`);
  return values;
}

interface CrowdBlocks {
  /** The category whose values are crowds. */
  readonly crowd: string;
  /** `[crowd, count]` each. */
  readonly modes: Float32Array;
  readonly variances: Float32Array;
}

/** Null where the method has no crowds, and where validation chose to do without their blocks, which are zeros then. */
export function crowdBlocksOf(model: Pick<RankingModel, 'spec' | 'dense'>): CrowdBlocks | null {
  const { crowd } = model.spec;
  if (crowd === undefined) return null;
  const [modes, variances] = [denseOf(model, CROWD_MODES), denseOf(model, CROWD_VARIANCES)];
  return variances.every((variance) => variance === 0) ? null : { crowd, modes, variances };
}

/** The tables in the order of the spec. */
export function tablesOf({ spec, tables }: Pick<RankingModel, 'spec' | 'tables'>) {
  return spec.tables.map(({ name }) => {
    const table = tables.get(name);
    if (table === undefined) throw new Error(`the model has no table ${name}`);
    return table;
  });
}
