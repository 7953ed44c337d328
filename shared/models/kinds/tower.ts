/** Hidden layers with ReLU and an output layer: `layerN.weight`, `layerN.bias`, `output.weight`. */

import type { BlockVariable } from './model-definition.js';
import type { ModelOptions } from './model-options.js';

export function towerBlocks({ hiddenWidths }: ModelOptions): string[] {
  return [...hiddenWidths.map((_, index) => `layer${index}`), 'output'];
}

/** @returns the variables, and the width of the last layer's output. */
export function hiddenLayers(
  { hiddenWidths }: ModelOptions,
  inputWidth: number,
): { readonly variables: readonly BlockVariable[]; readonly width: number } {
  let width = inputWidth;
  const variables = hiddenWidths.flatMap((out, index): BlockVariable[] => {
    const block = `layer${index}`;
    // He et al. (2015): keeps the variance of activations through ReLU layers.
    const weight = weightVariable(block, `${block}.weight`, [width, out], Math.sqrt(2 / width));
    width = out;
    return [weight, { block, name: `${block}.bias`, shape: [out], initial: { kind: 'zeros' } }];
  });
  return { variables, width };
}

/** The output layer; its bias is the model's. */
export function outputLayer(inputWidth: number): BlockVariable {
  return weightVariable('output', 'output.weight', [inputWidth, 1], Math.sqrt(1 / inputWidth));
}

export function tower(options: ModelOptions, inputWidth: number): BlockVariable[] {
  const { variables, width } = hiddenLayers(options, inputWidth);
  return [...variables, outputLayer(width)];
}

export function weightVariable(
  block: string,
  name: string,
  shape: [number, number],
  deviation: number,
): BlockVariable {
  return { block, name, shape, initial: { kind: 'weights', deviation, extents: shape } };
}
