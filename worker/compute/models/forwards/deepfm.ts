/** DeepFM: `shared/models/kinds/deepfm.ts`. */

import { interactionsByField, linearAndFactorised } from '../interactions.js';
import { fieldPieces, hiddenLayers, outputTerm } from '../layers.js';
import type { Forward } from '../model-frame.js';

export const deepfm: Forward = (frame) => {
  const isSummed = frame.spec.options.interactions !== 'by-field';
  const terms = linearAndFactorised(frame, { isFactorised: isSummed });
  const hidden = hiddenLayers(frame, fieldPieces(frame));
  const pieces = isSummed ? hidden : [...hidden, ...interactionsByField(frame)];
  return [...terms, outputTerm(frame, pieces)];
};
