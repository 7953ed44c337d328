/** The TensorFlow.js backends to choose from. */

import { z } from 'zod';

/** `auto`: native TensorFlow if it loads, else the fastest portable backend that does. */
export const BackendChoiceSchema = z.enum(['auto', 'tensorflow', 'wasm', 'cpu']);
export type BackendChoice = z.infer<typeof BackendChoiceSchema>;
