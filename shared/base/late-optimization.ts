/**
 * Sets when the optimizing compiler begins with a function. A command that lives for seconds spends them loading code. With
 * the engine's default, the compiler then spends a tenth of the processor time on functions that will not run for long.
 * A function keeps the budget that it began with, so workers and compute processes, which last, do not wait. A worker
 * runs each of its functions for a few jobs a second only, and would run slow code for hundreds of outer steps.
 */

import module from 'node:module';
import { setFlagsFromString } from 'node:v8';

/** Bytes of code that a function runs between two looks at whether to optimize it. */
const INTERRUPT_BUDGET_BYTE_COUNT = { ofEngine: 67_584, atStart: 600_000, ofWorker: 33_000 };

/**
 * Called by the entry of a process, before it loads what takes long. From Node 22.8 on, compiled code is kept
 * from process to process, and the engine has a cheaper compiler in between and another name for the setting.
 */
export function optimizeLate(): void {
  setInterruptBudget(INTERRUPT_BUDGET_BYTE_COUNT.atStart);
}

/** Called by the same entry when its code is loaded, before work that may last; a command that is brief leaves it out. */
export function optimizeAsUsual(): void {
  setInterruptBudget(INTERRUPT_BUDGET_BYTE_COUNT.ofEngine);
}

/** Called by the entry of a worker, before it loads what takes long. */
export function optimizeSoon(): void {
  setInterruptBudget(INTERRUPT_BUDGET_BYTE_COUNT.ofWorker);
}

function setInterruptBudget(byteCount: number): void {
  if ('enableCompileCache' in module) return;
  setFlagsFromString(`--interrupt-budget=${byteCount}`);
}
