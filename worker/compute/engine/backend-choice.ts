/** The TensorFlow.js backends that a compute process can be asked for. */

import { z } from 'zod';

/** `auto`: native TensorFlow where it loads, else the fastest portable backend that does. */
export const BackendChoiceSchema = z.enum(['auto', 'tensorflow', 'wasm', 'cpu']);
export type BackendChoice = z.infer<typeof BackendChoiceSchema>;
