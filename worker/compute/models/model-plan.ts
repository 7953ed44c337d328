/** Divides a model's variables and fields into those that differ by task and those that tasks share. */

import { GENERATED_BLOCK } from '../../../shared/methods/inner-loop/generated-block.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';

export interface ModelPlan {
  readonly spec: ModelSpec;
  /** Names of the variables that differ by task; none if nothing is adapted. */
  readonly personal: ReadonlySet<string>;
  readonly trunk: readonly string[];
  readonly hasPersonalNumbers: boolean;
  readonly hasPersonalEmbedding: boolean;
  /** Place of the field that is a block of each task instead of a table's row; null if there is none. */
  readonly generatedPlace: number | null;
  /**
   * The number of fields that are the same function of a row for every task. They come first, apart from
   * the generated one.
   */
  readonly sharedFieldCount: number;
  /** The layers some of whose units are dropped: the rows come with their masks. */
  readonly maskedLayers: ReadonlySet<string>;
}

/** @param adapts with false, every variable is shared. */
export function modelPlanOf(
  spec: ModelSpec,
  adapts: boolean,
  maskedLayers: Iterable<string> = [],
): ModelPlan {
  const names = spec.variables.map(({ name }) => name);
  const personal = new Set(
    spec.variables.filter(({ block }) => adapts && block === 'personal').map(({ name }) => name),
  );
  const hasPersonalNumbers = names.some((n) => n.startsWith('numbers.') && personal.has(n));
  const hasPersonalEmbedding = personal.has('adgroupEmbedding');
  const isGenerated = personal.has(GENERATED_BLOCK);
  return {
    spec,
    personal,
    trunk: names.filter((name) => !personal.has(name)),
    hasPersonalNumbers,
    hasPersonalEmbedding,
    generatedPlace: isGenerated ? generatedPlaceOf(spec) : null,
    sharedFieldCount:
      spec.fieldCount -
      (hasPersonalNumbers ? spec.numberFeatures.length : 0) -
      (hasPersonalEmbedding ? 1 : 0) -
      (isGenerated ? 1 : 0),
    maskedLayers: new Set(maskedLayers),
  };
}

function generatedPlaceOf({ categoryFeatures, options }: ModelSpec): number {
  // Categories are the first fields.
  const place = categoryFeatures.indexOf(options.generated ?? '');
  if (place < 0) throw new Error(`the model has no category feature ${String(options.generated)}`);
  return place;
}
