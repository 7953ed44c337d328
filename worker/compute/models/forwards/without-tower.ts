/** Models without hidden layers: `shared/models/kinds/logistic.ts` and `fm.ts`. */

import { linearAndFactorised, weightedInteractions } from '../interactions.js';
import type { Forward } from '../model-frame.js';

export const logistic: Forward = (frame) => linearAndFactorised(frame, { isFactorised: false });

export const fm: Forward = (frame) => {
  const isByField = frame.spec.options.interactions === 'by-field';
  const terms = linearAndFactorised(frame, { isFactorised: !isByField });
  return isByField ? [...terms, ...weightedInteractions(frame, 'output.weight', 0)] : terms;
};
