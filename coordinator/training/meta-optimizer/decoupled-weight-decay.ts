/** Pulls trunk variables and touched table rows towards 0, apart from the gradient's moments. */

import type { ModelSpec } from '../../../shared/models/model-spec.js';
import {
  emptyOptimizerState,
  type GradientTransformation,
  mapDense,
  mapRows,
  type RowGradient,
} from './gradient-transformation.js';
import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';

/**
 * update + decay * parameter (AdamW: Loshchilov and Hutter, ICLR 2019). The rate is applied later,
 * so the decay is proportional to it. Personal blocks are not decayed: their initial values are
 * adapted, and decay would work against the inner loop. An untouched row keeps its values until it
 * is touched.
 *
 * @param tableDecay of table rows.
 */
export function addDecoupledWeightDecay(
  decay: number,
  variables: ModelSpec['variables'],
  tableDecay = decay,
): GradientTransformation {
  const trunk = new Set(variables.filter((v) => v.block === 'trunk').map((v) => v.name));
  return {
    stage: 'weightDecay',
    init: () => emptyOptimizerState,
    update(updates, state, params) {
      if (decay === 0 && tableDecay === 0) return [updates, state];
      const dense = mapDense(updates.dense, (update, name) => {
        const parameter = params.dense.get(name);
        if (parameter === undefined) throw new Error(`no parameter ${name}`);
        if (!trunk.has(name) || decay === 0) return update;
        for (let i = 0; i < update.length; i += 1)
          update[i] = (update[i] ?? NaN) + decay * (parameter.values[i] ?? NaN);
        return update;
      });
      const rows = mapRows(updates.rows, (gradient, name) => {
        const table = params.tables.get(name);
        if (table === undefined) throw new Error(`no table ${name}`);
        if (tableDecay > 0) addDecayedRows(gradient, table, tableDecay);
        return gradient.values;
      });
      return [{ dense, rows }, state];
    },
  };
}

function addDecayedRows(
  { ids, values: updates }: RowGradient,
  { width, values }: EmbeddingTable,
  decay: number,
): void {
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.addScaled(values, width, ids, updates, decay);
    return;
  }
  let place = 0;
  for (const id of ids) {
    const end = (id + 1) * width;
    for (let at = id * width; at < end; at += 1, place += 1)
      updates[place] = (updates[place] ?? NaN) + decay * (values[at] ?? NaN);
  }
}
