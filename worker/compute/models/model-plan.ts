/** Which of a model's variables and fields differ by task, and which all tasks share. */

import type { ModelSpec } from '../../../shared/models/model-spec.js';

export interface ModelPlan {
  readonly spec: ModelSpec;
  /** Names of the variables that differ by task; none when nothing is adapted. */
  readonly personal: ReadonlySet<string>;
  readonly trunk: readonly string[];
  readonly hasPersonalNumbers: boolean;
  readonly hasPersonalEmbedding: boolean;
  /** Fields that are the same function of a row for every task; they come first. */
  readonly sharedFieldCount: number;
}

/** @param adapts false makes every variable shared: a forward pass for all tasks alike. */
export function modelPlanOf(spec: ModelSpec, adapts: boolean): ModelPlan {
  const names = spec.variables.map(({ name }) => name);
  const personal = new Set(
    spec.variables.filter(({ block }) => adapts && block === 'personal').map(({ name }) => name),
  );
  const hasPersonalNumbers = names.some((n) => n.startsWith('numbers.') && personal.has(n));
  const hasPersonalEmbedding = personal.has('adgroupEmbedding');
  return {
    spec,
    personal,
    trunk: names.filter((name) => !personal.has(name)),
    hasPersonalNumbers,
    hasPersonalEmbedding,
    sharedFieldCount:
      spec.fieldCount -
      (hasPersonalNumbers ? spec.numberFeatures.length : 0) -
      (hasPersonalEmbedding ? 1 : 0),
  };
}
