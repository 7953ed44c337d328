/**
 * Refuses state that a captured function must not use, since a graph would freeze it: variables, and
 * randomness without a seed.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { NativeBackend } from '../native-backend.js';
import { refusal } from './refusal.js';

export interface VariablesBefore {
  readonly nameById: ReadonlyMap<number, string>;
  /** An assignment gives a variable another data id. */
  readonly dataByName: ReadonlyMap<string, object>;
}

export function variablesBefore(tf: typeof tfjs, backend: NativeBackend): VariablesBefore {
  const variables = Object.values(tf.engine().registeredVariables);
  const ids = backend.getInputTensorIds(variables);
  return {
    nameById: new Map(ids.map((id, index) => [id, variables[index]?.name ?? ''])),
    dataByName: new Map(variables.map(({ name, dataId }) => [name, dataId])),
  };
}

export function refuseAssignments(tf: typeof tfjs, before: VariablesBefore): void {
  for (const { name, dataId } of Object.values(tf.engine().registeredVariables)) {
    if (before.dataByName.get(name) === dataId) continue;
    const made = !before.dataByName.has(name);
    throw refusal({
      what: `the captured function ${made ? 'makes' : 'assigns to'} the variable ${name}`,
      expected: 'no effect but its results',
      cure: 'return the value and assign it after the call',
    });
  }
}

/**
 * Random tensors are drawn in JavaScript and reach the backend as plain values. They are detected
 * because the library asks `Math.random` for a seed if it is given none.
 */
export function withoutUnseededRandomness<Result>(act: () => Result): Result {
  const original = Reflect.getOwnPropertyDescriptor(Math, 'random');
  if (original === undefined) throw new Error('Math has no random');
  const drawn: Error[] = [];
  const refused = (): Error =>
    refusal({
      what: 'a random tensor without a seed cannot be captured',
      expected: 'results that depend on the inputs alone',
      cure: 'give a seed, or draw outside and pass the result in',
    });
  Reflect.defineProperty(Math, 'random', {
    configurable: true,
    writable: true,
    value: () => {
      const error = refused();
      drawn.push(error);
      throw error;
    },
  });
  try {
    const result = act();
    // The function may have swallowed the error.
    if (drawn[0] !== undefined) throw drawn[0];
    return result;
  } finally {
    Reflect.defineProperty(Math, 'random', original);
  }
}
