/** DeepFM: `shared/models/kinds/deepfm.ts`. */

import { weightedInteractions, linearAndFactorised } from '../interactions.js';
import { fieldPieces, hiddenLayers, outputTerm } from '../layers.js';
import type { Forward } from '../model-frame.js';

export const deepfm: Forward = (frame) => {
  const isSummed = frame.spec.options.interactions !== 'by-field';
  const terms = linearAndFactorised(frame, { isFactorised: isSummed });
  const hidden = hiddenLayers(frame, fieldPieces(frame));
  const hiddenWidth = hidden.reduce((sum, { rowCount }) => sum + rowCount, 0);
  return [
    ...terms,
    outputTerm(frame, hidden),
    ...(isSummed ? [] : weightedInteractions(frame, 'output.weight', hiddenWidth)),
  ];
};
