/** Applies stages one after the other: the updates of each are the input of the next. */

import { emptyOptimizerState, type GradientTransformation } from './gradient-transformation.js';

export function chain(...stages: readonly GradientTransformation[]): GradientTransformation {
  const names = stages.map(({ stage }) => stage);
  if (new Set(names).size !== names.length)
    throw new Error(`stages share state when they share a name: ${names.join(', ')}`);
  return {
    stage: 'chain',
    init: (params) =>
      stages.reduce((state, stage) => {
        const { dense, tables, scalars } = stage.init(params);
        return {
          dense: new Map([...state.dense, ...dense]),
          tables: new Map([...state.tables, ...tables]),
          scalars: { ...state.scalars, ...scalars },
        };
      }, emptyOptimizerState),
    update: (updates, state, params) =>
      stages.reduce<ReturnType<GradientTransformation['update']>>(
        ([passed, kept], stage) => stage.update(passed, kept, params),
        [updates, state],
      ),
  };
}
