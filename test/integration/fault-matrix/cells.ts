/** Runs the cells of one file and checks that they are those of the table. */

import { it } from 'vitest';
import { CELLS, type FaultCell } from './matrix.js';

/** @param name of the run, the queue and the output; no other cell has it. */
type RunCell = (name: string) => Promise<void>;

export class CellsOfFile {
  readonly #open: Set<FaultCell>;
  readonly #stem: string;
  #count = 0;

  constructor(file: string) {
    this.#open = new Set(CELLS.filter((cell) => cell.file === file));
    this.#stem = file.replace(/\.test\.ts$/, '');
  }

  /**
   * The cells of a file run side by side, because most of their time is waiting.
   *
   * @param lack what this machine lacks to run the cell, which is then skipped
   */
  run(fault: string, phase: string, run: RunCell, lack: string | null = null): void {
    const cell = [...this.#open].find((each) => each.fault === fault && each.phase === phase);
    if (cell === undefined) throw new Error(`the table has no open cell "${fault}", "${phase}"`);
    this.#open.delete(cell);
    this.#count += 1;
    const name = `${this.#stem}-${this.#count}`;
    const suffix = lack === null ? '' : ` (SKIPPED: ${lack})`;
    it.skipIf(lack !== null).concurrent(`${fault}, ${phase}${suffix}`, () => run(name));
  }

  /** To be called after the last cell. */
  complete(): void {
    const [left] = this.#open;
    if (left !== undefined)
      throw new Error(`nothing runs the cell "${left.fault}", "${left.phase}"`);
  }
}
