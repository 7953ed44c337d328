/** `qianmo synthesize`: writes an advertising log whose true click probabilities are known. */

import type { SynthesisOptions, SynthesisReport } from './synthesis.js';

export type { SynthesisOptions, SynthesisReport } from './synthesis.js';

export function synthesize(options: SynthesisOptions): Promise<SynthesisReport> {
  return Promise.reject(new Error(`synthesis of ${options.path} is not built yet`));
}
