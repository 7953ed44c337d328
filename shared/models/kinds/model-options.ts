/**
 * The options that every model takes, and those about fields that several models share: the section
 * `model` of a run config without its kind and its cross-checks. Options of a single model are in
 * that model's file.
 */

import { z } from 'zod';
import { SupportInputsSchema } from './support-inputs.js';

const positiveInt = z.int().positive();
const featureNames = z.array(z.string().min(1)).min(1);

const InitialisationSchema = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('normal'),
      deviation: z.number().positive().max(10).describe('Standard deviation; the mean is 0.'),
    })
    .describe('A normal distribution.'),
  z
    .strictObject({
      kind: z.literal('uniform'),
      bound: z.number().positive().max(10).describe('Values lie in [-bound, bound].'),
    })
    .describe('A uniform distribution.'),
  z
    .strictObject({ kind: z.literal('glorot-uniform') })
    .describe(
      'Uniform within sqrt(6 / (in + out)) (Glorot and Bengio, AISTATS 2010); for a table, its rows ' +
        'plus its width.',
    ),
]);

export const PERSONAL_TEXT =
  'The personal blocks: bias, adgroupEmbedding, numbers, layer0, layer1, ... (hidden layers from the ' +
  'input on), cross0, cross1, ... (cross layers) and output; or a preset: anil, boil or all.';

/** An optional field without a value is as good as absent: defaults depend on the model. */
export const MODEL_OPTIONS = {
  embeddingWidth: positiveInt.max(1024).default(8).describe("Width of each field's embedding."),
  hiddenWidths: z
    .array(positiveInt.max(16384))
    .default([64, 32])
    .describe('Widths of the hidden layers, from the input on; [] for a model without any.'),
  adgroupEmbedding: z
    .boolean()
    .default(false)
    .describe(
      "Whether each adgroup has a vector beside the features' embeddings. It must be personal: add " +
        'adgroupEmbedding to personal.',
    ),
  generated: z
    .string()
    .min(1)
    .optional()
    .describe(
      "A category feature, such as the adgroup's id, whose embedding is a personal block of each " +
        'task instead of a row of its table: new adgroups have no trained row.',
    ),
  personal: z.array(z.string()).default(['bias']).describe(PERSONAL_TEXT),
  embeddingDeviation: z
    .number()
    .positive()
    .max(10)
    .default(0.05)
    .describe('Standard deviation of the initial embeddings.'),
  linear: z
    .boolean()
    .optional()
    .describe(
      'Whether the logit has a linear weight per id and number. By default it has, except in models ' +
        'made of a tower alone (mlp, ipnn, opnn, pnn, dcn-v2).',
    ),
  padding: z
    .enum(['masked', 'trained'])
    .optional()
    .describe(
      'What fills the empty places of a bag: nothing (masked, the default), or one more trained row ' +
        'that counts in the mean (trained).',
    ),
  initialisation: z
    .strictObject({
      layers: z
        .enum(['normal', 'glorot-uniform'])
        .optional()
        .describe(
          'Weights of hidden, cross and output layers; by default normal, scaled to the activation ' +
            'that follows.',
        ),
      tables: z
        .record(z.string(), InitialisationSchema)
        .optional()
        .describe('Embeddings by feature, instead of a normal distribution of embeddingDeviation.'),
    })
    .optional()
    .describe('How variables are initialised.'),
  supportInputs: SupportInputsSchema.optional().describe(
    "Number features computed from a task's support rows; none by default.",
  ),
};

/** Options about fields. A model that takes one lists it among its `options`. */
export const FIELD_OPTIONS = {
  factorisedFields: featureNames
    .optional()
    .describe(
      'The fields whose products enter the model (all by default). Summed interactions and products ' +
        'are those between these fields; interactions by field are those of each of these with all ' +
        'fields.',
    ),
  interactions: z
    .enum(['summed', 'by-field'])
    .optional()
    .describe(
      'fm, deepfm: one sum in the logit (summed, the default), or a number per field that the output ' +
        'layer weighs (by-field). ipnn, pnn: an inner product for each pair of fields, or a number ' +
        'per field.',
    ),
  wideFields: featureNames
    .optional()
    .describe(
      'Categories and bags, such as crosses of features, that have a linear weight and no part in ' +
        'the tower.',
    ),
};

/** Options as every reader may find them; a model takes further ones of its own. */
export type ModelOptions = z.infer<z.ZodObject<typeof MODEL_OPTIONS & typeof FIELD_OPTIONS>>;
