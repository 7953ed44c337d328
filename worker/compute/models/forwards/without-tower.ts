/** Models without hidden layers: `shared/models/kinds/logistic.ts` and `fm.ts`. */

import { interactionsByField, linearAndFactorised } from '../interactions.js';
import { outputTerm } from '../layers.js';
import type { Forward } from '../model-frame.js';

export const logistic: Forward = (frame) => linearAndFactorised(frame, { isFactorised: false });

export const fm: Forward = (frame) => {
  const isByField = frame.spec.options.interactions === 'by-field';
  const terms = linearAndFactorised(frame, { isFactorised: !isByField });
  return isByField ? [...terms, outputTerm(frame, interactionsByField(frame))] : terms;
};
