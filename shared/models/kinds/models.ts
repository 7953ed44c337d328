/** The list of models: a new one is a file beside this and a line here. */

import { KindRegistry } from '../../names/kind-registry.js';
import { dcnV2 } from './dcn-v2.js';
import { deepfm } from './deepfm.js';
import { fm } from './fm.js';
import { fwfm } from './fwfm.js';
import { logistic } from './logistic.js';
import { mlp } from './mlp.js';
import type { ModelDefinition } from './model-definition.js';
import { ipnn, opnn, pnn } from './pnn.js';
import { wideDeep } from './wide-deep.js';

// prettier-ignore
const BUILT_IN = [
  deepfm,
  mlp,
  logistic,
  fm,
  wideDeep,
  ipnn,
  opnn,
  pnn,
  dcnV2,
  fwfm,
] as const;

/** The models that a process knows. */
export const MODELS = new KindRegistry<ModelDefinition>(
  'model',
  BUILT_IN.map((model) => [model.kind, model]),
);

type Intersected<Union> = (Union extends unknown ? (each: Union) => void : never) extends (
  all: infer Both,
) => void
  ? Both
  : never;

/** The options that only some of the built-in models take. */
type OwnOptions = Intersected<(typeof BUILT_IN)[number]['options']>;

/** The options that only some models take, those of plugins included. */
export function ownOptions(): OwnOptions {
  return Object.assign({}, ...MODELS.all().map(({ options }) => options)) as OwnOptions;
}
