/** Models without layers: `shared/models/kinds/logistic.ts` and `fm.ts`. */

import { linearAndFactorised } from '../interactions.js';
import type { Forward } from '../model-frame.js';

export const logistic: Forward = (frame) => linearAndFactorised(frame, { isFactorised: false });

export const fm: Forward = (frame) => linearAndFactorised(frame, { isFactorised: true });
