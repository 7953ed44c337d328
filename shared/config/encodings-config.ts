/** The section `training.encodings` of a run config: how numbers are rounded for their way. */

import { z } from 'zod';
import { TENSOR_ENCODINGS } from '../tensors/rounded-tensors.js';

export const EncodingsConfigSchema = z
  .strictObject({
    parameters: z
      .enum(TENSOR_ENCODINGS)
      .default('float32')
      .describe(
        'Dense variables and row packs on their way to workers. What rounding takes from a dense variable is ' +
          'added when it is sent next; rows are rounded up or down at random, so that the mean is kept.',
      ),
    gradients: z
      .enum(TENSOR_ENCODINGS)
      .default('float32')
      .describe(
        'Gradients on their way back. They are rounded up or down at random, so that the mean is kept.',
      ),
  })
  .describe(
    'Fewer bytes for each number that travels in training: 2 for float16, about 1 for int8. The digest of a run ' +
      'depends on it. Everything travels as float32 if absent.',
  );
