/** The parameters of a model as nodes of a float64 tape. */

import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ScalarTape } from './scalar-tape.js';

export type Values = Map<string, Float64Array>;

/** Nodes of the variables and touched table rows on one tape. */
export class Leaves {
  constructor(
    readonly tape: ScalarTape,
    readonly dense: Values,
    readonly meta: MetaParameters,
    readonly nodes = new Map<string, number[]>(),
  ) {}
  variable(name: string): number[] {
    return this.leaf(name, () => [...this.dense.get(name)!]);
  }
  row(table: string, id: number): number[] {
    return this.leaf(`${table}/${id}`, () => {
      const { width, values } = this.meta.tables.get(table)!;
      return [...values.subarray(id * width, (id + 1) * width)];
    });
  }
  private leaf(key: string, valuesOf: () => number[]): number[] {
    const known = this.nodes.get(key);
    if (known !== undefined) return known;
    const nodes = valuesOf().map((value) => this.tape.constant(value));
    this.nodes.set(key, nodes);
    return nodes;
  }
}
