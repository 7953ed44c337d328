/** The models by kind: a line each. Their forward passes: `worker/compute/models/forwards.ts`. */

import { dcnV2 } from './kinds/dcn-v2.js';
import { deepfm } from './kinds/deepfm.js';
import { fm } from './kinds/fm.js';
import { logistic } from './kinds/logistic.js';
import { mlp } from './kinds/mlp.js';
import { ipnn, opnn, pnn } from './kinds/pnn.js';
import { wideDeep } from './kinds/wide-deep.js';
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
