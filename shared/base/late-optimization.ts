/**
 * Delays the optimizing compiler. A command that lives for seconds spends them loading code. With the
 * engine's default, the compiler then spends a tenth of the processor time on functions that will not run
 * for long. A longer run loses some milliseconds for each function that is worth it.
 */

import module from 'node:module';
import { setFlagsFromString } from 'node:v8';

/** Bytes of code that a function runs between two looks at whether to optimize it; 67,584 by default. */
const INTERRUPT_BUDGET_BYTE_COUNT = 600_000;

/**
 * Called by the entry of a process, before it loads what takes long. From Node 22.8 on, compiled code is kept
 * from process to process, and the engine has a cheaper compiler in between and another name for the setting.
 */
export function optimizeLate(): void {
  if ('enableCompileCache' in module) return;
  setFlagsFromString(`--interrupt-budget=${INTERRUPT_BUDGET_BYTE_COUNT}`);
}
