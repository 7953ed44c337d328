/** The models by kind: a line each. Their forward passes: `worker/compute/models/forwards/forwards.ts`. */

import { dcnV2 } from './dcn-v2.js';
import { deepfm } from './deepfm.js';
import { fm } from './fm.js';
import { logistic } from './logistic.js';
import { mlp } from './mlp.js';
import { ipnn, opnn, pnn } from './pnn.js';
import { wideDeep } from './wide-deep.js';
import type { ModelDefinition } from './model-definition.js';

export const MODELS = {
  deepfm,
  mlp,
  logistic,
  fm,
  'wide-deep': wideDeep,
  ipnn,
  opnn,
  pnn,
  'dcn-v2': dcnV2,
} as const satisfies Record<string, ModelDefinition>;

export type ModelKind = keyof typeof MODELS;
// The keys of a constant record are its type's.
export const MODEL_KINDS = Object.keys(MODELS) as [ModelKind, ...ModelKind[]];

export function modelOf(kind: ModelKind): ModelDefinition {
  return MODELS[kind];
}
