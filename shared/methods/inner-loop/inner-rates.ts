/**
 * Learned factors of the inner rate, one by personal block, 1 at the beginning:
 *
 *   phi <- phi - r_block * (innerRate * grad L(phi ; S))
 */

import type { Variable } from '../../tensors/variable.js';
import type { InnerLoop } from './inner-loop.js';
import type { MethodPlan } from './method.js';
import { blockOf } from './personal-blocks.js';

const rateNameOf = (variableName: string): string => `rates/${blockOf(variableName)}`;

/** The step along learned rates, and the variables that hold them. */
export const LEARNED_RATES: Required<Pick<InnerLoop, 'step'> & Pick<MethodPlan, 'variables'>> = {
  step: ({ tf, personal, variable }, { blocks, scaledGradients }) =>
    Object.fromEntries(
      personal.map((name) => {
        const [block, gradient] = [blocks[name], scaledGradients[name]];
        if (block === undefined || gradient === undefined) throw new Error(`no block ${name}`);
        return [name, tf.sub(block, tf.mul(gradient, variable(rateNameOf(name))))];
      }),
    ),
  variables: (model) => {
    const personal = model.variables.filter(({ block }) => block === 'personal');
    const names = new Set(personal.map(({ name }) => rateNameOf(name)));
    return [...names].map((name): Variable => ({
      ...{ name, shape: [1], block: 'method' },
      initial: { kind: 'constant', value: 1 },
    }));
  },
};
