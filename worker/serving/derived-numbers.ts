/** Numbers of a request that follow from its ids (`shared/features/derived-numbers.ts`). */

import { at, int32At } from '../../shared/base/arrays.js';
import type { DerivedNumber } from '../../shared/features/derived-numbers.js';
import type { FeaturePlace, RankingRequest, RequestLayout } from './ranking-request.js';

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

export class DerivedNumbers {
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
