/** A tower beside linear weights, where the model has them: mlp, wide-deep. */

import { linearAndFactorised } from '../interactions.js';
import { fieldPieces, hiddenLayers, outputTerm } from '../layers.js';
import type { Forward } from '../model-frame.js';

export const tower: Forward = (frame) => [
  ...linearAndFactorised(frame, { isFactorised: false }),
  outputTerm(frame, hiddenLayers(frame, fieldPieces(frame))),
];
