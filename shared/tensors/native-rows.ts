/**
 * Loops over table rows by the addon that `qianmo setup` compiles (`native/rows.h`). It gives the bits that
 * the loops in TypeScript beside its callers give, which serve where it is missing. One is loaded for the
 * whole process, or none.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

/** As `native/rows-addon.cc` exports it. All throw before they write, if an id or an array does not fit. */
interface NativeRows {
  /** Copies rows `ids` of `table`, `[rowCount, width]`, to `target` from element `first` on. */
  gather(
    table: Float32Array,
    width: number,
    ids: Int32Array,
    target: Float32Array,
    first: number,
  ): void;
  /** Adds `addends`, `[ids.length, width]`, to rows of a table. */
  add(table: Float32Array, width: number, ids: Int32Array, addends: Float32Array): void;
  /** Adds rows of a table times `factor` to `updates`, `[ids.length, width]`. */
  addScaled(
    table: Float32Array,
    width: number,
    ids: Int32Array,
    updates: Float32Array,
    factor: number,
  ): void;
  /**
   * A step of Adam on rows of its moments. `directions`, `[ids.length, width]`, hold the gradient before.
   *
   * @param factors decays of the first and of the second moment, both corrections, epsilon
   */
  adam(
    first: Float32Array,
    width: number,
    ids: Int32Array,
    second: Float32Array,
    directions: Float32Array,
    factors: Float64Array,
  ): void;
  /** Adds element by element, in float32. */
  addAll(sums: Float32Array, addends: Float32Array): void;
  /** Multiplies in float64 and rounds once. */
  scaleAll(values: Float32Array, factor: number): void;
  /**
   * Writes the rows of two ascending lists of ids to `target`, `[distinct ids, width]`, by id. A row of both lists is
   * their float32 sum.
   */
  merge(
    target: Float32Array,
    width: number,
    leftIds: Int32Array,
    leftRows: Float32Array,
    rightIds: Int32Array,
    rightRows: Float32Array,
  ): void;
  /** The distinct ids from 0 on of all lists, ascending. */
  distinct(lists: readonly Int32Array[]): Int32Array;
  /**
   * Writes the mode and the variances of the posterior of each group of rows, `[groupCount, count]`, under a normal prior with
   * mean 0 (`native/posterior.h`).
   *
   * @param starts where the rows of each group begin in `places`, and where the last ones end.
   * @param slopes `[rowCount, count]`; logits at the mean of the prior, `[rowCount]`.
   * @param numbers steps, the largest change of a logit in a step, the least share of precisions.
   */
  posteriors(
    starts: Int32Array,
    places: Int32Array,
    slopes: Float32Array,
    logits: Float32Array,
    clicks: Float32Array,
    impressions: Float32Array,
    precisions: Float32Array,
    numbers: Float64Array,
    modes: Float32Array,
    variances: Float32Array,
  ): void;
}

interface LoadedRows {
  readonly path: string;
  readonly rows: NativeRows;
}

let loaded: LoadedRows | null = null;

/** @param path of the addon; where there is none, this process goes on without it. */
export function loadNativeRows(path: string): void {
  if (!existsSync(path)) return;
  try {
    // Compiled from the sources beside this file, whose exports the interface repeats.
    loaded = { path, rows: createRequire(import.meta.url)(path) as NativeRows };
  } catch {
    // It was compiled for another machine, or is cut off: TypeScript does the same.
  }
}

/** Null where the addon is not loaded. */
export function nativeRows(): NativeRows | null {
  return loaded?.rows ?? null;
}

/** What a process hands to the processes that it starts; null where the addon is not loaded. */
export function nativeRowsPath(): string | null {
  return loaded?.path ?? null;
}

/** Goes back to TypeScript, so that tests can compare both. */
export function unloadNativeRows(): void {
  loaded = null;
}
