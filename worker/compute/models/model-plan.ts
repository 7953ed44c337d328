/**
 * How a forward pass is cut in two: what only shared parameters reach (the trunk pass, computed
 * once per batch) and the rest (the personal pass, all that inner steps run and differentiate).
 */

import type { ModelSpec } from '../../../shared/models/model-spec.js';

export interface Layer {
  readonly weight: string;
  /** Null for the output layer, whose bias is the model's. */
  readonly bias: string | null;
  readonly hasRelu: boolean;
  readonly isPersonal: boolean;
}

export interface ModelPlan {
  readonly spec: ModelSpec;
  /** Names of the variables that differ by task; none when nothing is adapted. */
  readonly personal: ReadonlySet<string>;
  readonly trunk: readonly string[];
  /** Hidden layers and the output layer; empty for logistic regression. */
  readonly layers: readonly Layer[];
  /** Leading layers that are part of the trunk pass as a whole. */
  readonly trunkLayerCount: number;
  readonly numberFieldCount: number;
  readonly hasPersonalNumbers: boolean;
  /** Fields that differ by task: numbers, adgroup embedding. */
  readonly hasPersonalFields: boolean;
}

/** @param adapts false makes every variable shared: a forward pass for all tasks alike. */
export function modelPlanOf(spec: ModelSpec, adapts: boolean): ModelPlan {
  const names = spec.variables.map(({ name }) => name);
  const personal = new Set(
    spec.variables.filter(({ block }) => adapts && block === 'personal').map(({ name }) => name),
  );
  const isLogistic = spec.kind === 'logistic';
  const layers = isLogistic
    ? []
    : [
        ...spec.hiddenWidths.map((_, index) => ({
          weight: `layer${index}.weight`,
          bias: `layer${index}.bias`,
          hasRelu: true,
        })),
        { weight: 'output.weight', bias: null, hasRelu: false },
      ].map((layer): Layer => ({ ...layer, isPersonal: personal.has(layer.weight) }));
  const numberFieldCount = spec.numberFeatures.length;
  const hasPersonalNumbers = names.some((n) => n.startsWith('numbers.') && personal.has(n));
  const hasPersonalFields = hasPersonalNumbers || personal.has('adgroupEmbedding');
  const firstPersonalLayer = layers.findIndex((layer) => layer.isPersonal);
  const sharedLayerCount = firstPersonalLayer < 0 ? layers.length : firstPersonalLayer;
  return {
    spec,
    personal,
    trunk: names.filter((name) => !personal.has(name)),
    layers,
    trunkLayerCount: hasPersonalFields ? 0 : sharedLayerCount,
    numberFieldCount,
    hasPersonalNumbers,
    hasPersonalFields,
  };
}
