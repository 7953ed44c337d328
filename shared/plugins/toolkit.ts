/** Everything that a plugin file may import, under the name `qianmo/plugin`. */

export { z } from 'zod';
export { defineMethod } from '../methods/inner-loop/method.js';
export {
  adaptationBy,
  FIRST_ORDER,
  innerLoopSettings,
} from '../methods/inner-loop/inner-loop-settings.js';
export { defineModel } from '../models/kinds/model-definition.js';
export { FIELD_OPTIONS } from '../models/kinds/model-options.js';
export { hiddenLayers, outputLayer, weightVariable } from '../models/kinds/model-definition.js';
