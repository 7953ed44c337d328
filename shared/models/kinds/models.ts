/** The list of models: a new one is a file beside this and a line here. */

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
const LISTED = [
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

type Intersected<Union> = (Union extends unknown ? (each: Union) => void : never) extends (
  all: infer Both,
) => void
  ? Both
  : never;

/** The options that only some models take. */
export type OwnOptions = Intersected<(typeof LISTED)[number]['options']>;

export const MODELS: readonly ModelDefinition[] = LISTED;

export function ownOptionsOf(models: readonly ModelDefinition[]): OwnOptions {
  // Options of one name are one schema, whichever model states them.
  return Object.assign({}, ...models.map(({ options }) => options)) as OwnOptions;
}

export function modelOf(kind: string): ModelDefinition {
  const model = MODELS.find((each) => each.kind === kind);
  if (model === undefined) throw new Error(`no model ${kind}`);
  return model;
}
