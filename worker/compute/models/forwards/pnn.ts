/** Product-based networks: `shared/models/kinds/pnn.ts`. */

import { interactionsByField, linearAndFactorised } from '../interactions.js';
import { fieldPieces, hiddenLayers, outputTerm } from '../layers.js';
import type { Forward } from '../model-frame.js';
import { innerProducts, outerProduct } from '../products.js';

interface Products {
  readonly inner: boolean;
  readonly outer: boolean;
}

export function productNetwork({ inner, outer }: Products): Forward {
  return (frame) => {
    const isByField = frame.spec.options.interactions === 'by-field';
    const innerPieces = isByField ? interactionsByField : innerProducts;
    return [
      ...linearAndFactorised(frame, { isFactorised: false }),
      outputTerm(
        frame,
        hiddenLayers(frame, [
          ...fieldPieces(frame),
          ...(inner ? innerPieces(frame) : []),
          ...(outer ? outerProduct(frame) : []),
        ]),
      ),
    ];
  };
}
