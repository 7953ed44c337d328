/** The forward pass of each model: a line each. Formulas: `shared/models/kinds`. */

import type { ModelKind } from '../../../../shared/models/kinds/models.js';
import { dcnV2 } from './dcn-v2.js';
import { deepfm } from './deepfm.js';
import { productNetwork } from './pnn.js';
import { tower } from './tower.js';
import { fm, logistic } from './without-tower.js';
import type { Forward } from '../model-frame.js';

const FORWARDS: Record<ModelKind, Forward> = {
  deepfm,
  mlp: tower,
  logistic,
  fm,
  'wide-deep': tower,
  ipnn: productNetwork({ inner: true, outer: false }),
  opnn: productNetwork({ inner: false, outer: true }),
  pnn: productNetwork({ inner: true, outer: true }),
  'dcn-v2': dcnV2,
};

export function forwardOf(kind: ModelKind): Forward {
  return FORWARDS[kind];
}
