/** A request as scorers read it: one context and its candidates, features encoded. */

import { supportInputNames } from '../../shared/models/kinds/support-inputs.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';

/**
 * Features of the context come once, those of the candidates once for each. Ids are those of category
 * features in the order of the spec, then of bags, each at `lengthMax` places of which -1 is empty.
 * Numbers are those of the data. Arrays may be longer than a request needs, so that they can be reused.
 */
export interface RankingRequest {
  readonly candidateCount: number;
  /** `[candidateCount]`: the block of each candidate's adgroup; 0 for an unknown one. */
  readonly blocks: Int32Array;
  readonly contextIds: Int32Array;
  /** `[candidateCount, candidateIdCount]` */
  readonly candidateIds: Int32Array;
  readonly contextNumbers: Float32Array;
  /** `[candidateCount, candidateNumberCount]` */
  readonly candidateNumbers: Float32Array;
}

export type Side = 'context' | 'candidate';

/** Where a feature lies among the ids or the numbers of its side. */
export interface FeaturePlace {
  readonly name: string;
  readonly side: Side;
  readonly firstPlace: number;
  /** 1, or the places of a bag. */
  readonly placeCount: number;
}

export interface RequestLayout {
  /** Category features, then bags, in the order of the spec. */
  readonly ids: readonly FeaturePlace[];
  readonly numbers: readonly FeaturePlace[];
  readonly idCounts: Readonly<Record<Side, number>>;
  readonly numberCounts: Readonly<Record<Side, number>>;
}

export function requestLayoutOf(
  spec: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  const { numberFeatures, options } = spec;
  const ofData = numberFeatures.length - supportInputNames(options.supportInputs).length;
  return layoutOf({ ...spec, numberFeatures: numberFeatures.slice(0, ofData) }, contextFeatures);
}

/** The layout with support inputs, which lie behind the numbers of each candidate. */
export function layoutWithSupportInputs(
  spec: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  return layoutOf(spec, contextFeatures);
}

function layoutOf(
  { categoryFeatures, bagFeatures, numberFeatures }: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  const ids = placed(contextFeatures, [
    ...categoryFeatures.map((name) => ({ name, lengthMax: 1 })),
    ...bagFeatures,
  ]);
  const numbers = placed(
    contextFeatures,
    numberFeatures.map((name) => ({ name, lengthMax: 1 })),
  );
  return {
    ...{ ids: ids.places, idCounts: ids.counts },
    ...{ numbers: numbers.places, numberCounts: numbers.counts },
  };
}

function placed(
  contextFeatures: readonly string[],
  features: readonly { readonly name: string; readonly lengthMax: number }[],
): { readonly places: readonly FeaturePlace[]; readonly counts: Readonly<Record<Side, number>> } {
  const counts = { context: 0, candidate: 0 };
  const places = features.map(({ name, lengthMax }): FeaturePlace => {
    const side = contextFeatures.includes(name) ? 'context' : 'candidate';
    const firstPlace = counts[side];
    counts[side] += lengthMax;
    return { name, side, firstPlace, placeCount: lengthMax };
  });
  return { places, counts };
}
