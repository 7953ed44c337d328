/** Pulls trunk variables and touched table rows towards 0, apart from the gradient's moments. */

import type { ModelSpec } from '../../../shared/models/model-spec.js';
import {
  emptyOptimizerState,
  forEachTouched,
  mapDense,
  mapRows,
  type GradientTransformation,
} from './gradient-transformation.js';

/**
 * update + decay * parameter (AdamW: Loshchilov and Hutter, ICLR 2019). The rate is applied later,
 * so the decay is proportional to it. Personal blocks are not decayed: their initial values are
 * adapted, and decay would work against the inner loop. An untouched row keeps its values until it
 * is touched.
 */
export function addDecoupledWeightDecay(
  decay: number,
  variables: ModelSpec['variables'],
): GradientTransformation {
  const trunk = new Set(variables.filter((v) => v.block === 'trunk').map((v) => v.name));
  return {
    stage: 'weightDecay',
    init: () => emptyOptimizerState,
    update(updates, state, params) {
      if (decay === 0) return [updates, state];
      const dense = mapDense(updates.dense, (update, name) => {
        const parameter = params.dense.get(name);
        if (parameter === undefined) throw new Error(`no parameter ${name}`);
        if (!trunk.has(name)) return update;
        return update.map((value, i) => value + decay * (parameter.values[i] ?? 0));
      });
      const rows = mapRows(updates.rows, (gradient, name) => {
        const table = params.tables.get(name);
        if (table === undefined) throw new Error(`no table ${name}`);
        const decayed = new Float32Array(gradient.values.length);
        forEachTouched(gradient, table.width, (i, at) => {
          decayed[i] = (gradient.values[i] ?? 0) + decay * (table.values[at] ?? 0);
        });
        return decayed;
      });
      return [{ dense, rows }, state];
    },
  };
}
