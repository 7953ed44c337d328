/**
 * The options of all models, each with its bound: the section `model` of a run config without its
 * kind and its cross-checks. Which model takes which of them is said by the models (`kinds/`).
 */

import { z } from 'zod';
import { SupportInputsSchema } from './support-inputs.js';

const positiveInt = z.int().positive();
const featureNames = z.array(z.string().min(1)).min(1);

export const InitialisationSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('normal'), deviation: z.number().positive().max(10) }),
  /** Uniform in [-bound, bound]. */
  z.strictObject({ kind: z.literal('uniform'), bound: z.number().positive().max(10) }),
  /** Uniform within sqrt(6 / (in + out)) (Glorot and Bengio, AISTATS 2010); of a table rows + width. */
  z.strictObject({ kind: z.literal('glorot-uniform') }),
]);

/** An optional field without a value is as good as absent: defaults depend on the model. */
export const MODEL_OPTIONS = {
  embeddingWidth: positiveInt.max(1024).default(8),
  hiddenWidths: z.array(positiveInt.max(16384)).default([64, 32]),
  /** A vector per adgroup beside the features' embeddings; it belongs to `personal` or is useless. */
  adgroupEmbedding: z.boolean().default(false),
  /**
   * A category feature, such as the adgroup's id, whose embedding is a personal block of each task
   * wherever tasks adapt, instead of a row of its table: new adgroups have none that was trained.
   */
  generated: z.string().min(1).optional(),
  /**
   * The personal blocks: `bias`, `adgroupEmbedding`, `numbers`, `layer0`, `layer1`, ... (hidden
   * layers from the input on), `cross0`, `cross1`, ... (cross layers) and `output`. A run config may name a
   * preset instead (`personal-presets.ts`).
   */
  personal: z.array(z.string()).default(['bias']),
  /** Standard deviation of the initial embeddings. */
  embeddingDeviation: z.number().positive().max(10).default(0.05),
  /**
   * Whether a linear weight per id and number is part of the logit. Default: yes, but for models
   * made of a tower alone (mlp, ipnn, opnn, pnn, dcn-v2).
   */
  linear: z.boolean().optional(),
  /** What stands in the empty places of a bag: nothing, or one more trained row that counts in the mean. */
  padding: z.enum(['masked', 'trained']).optional(),
  initialisation: z
    .strictObject({
      /** Weights of hidden, cross and output layers; by default normal, scaled to their activation. */
      layers: z.enum(['normal', 'glorot-uniform']).optional(),
      /** By feature, instead of a normal distribution of `embeddingDeviation`. */
      tables: z.record(z.string(), InitialisationSchema).optional(),
    })
    .optional(),
  /**
   * fm, deepfm, ipnn, opnn, pnn: the fields whose products enter the model (all by default). Summed
   * interactions and products are those between these fields; interactions by field are those of
   * each of these with all fields.
   */
  factorisedFields: featureNames.optional(),
  /**
   * fm, deepfm: one sum in the logit, or a number per field that the output layer weighs. ipnn, pnn: an
   * inner product for each pair of fields, or a number per field.
   */
  interactions: z.enum(['summed', 'by-field']).optional(),
  /** Number features made of what a task's support rows have shown; none by default. */
  supportInputs: SupportInputsSchema.optional(),
  /** wide-deep: categories and bags, such as crosses of features, that have a linear weight alone. */
  wideFields: featureNames.optional(),
  /** dcn-v2: number of cross layers (3 by default). */
  crossLayers: positiveInt.max(16).optional(),
  /** dcn-v2: rank of the cross layers' weights; full by default. */
  crossRank: positiveInt.max(16384).optional(),
  /** dcn-v2: hidden layers beside the cross layers (`parallel`, the default) or on top of them. */
  crossTower: z.enum(['parallel', 'stacked']).optional(),
};

export type ModelOptions = z.infer<z.ZodObject<typeof MODEL_OPTIONS>>;
/** Options that only some models take. */
export type OwnOption =
  'factorisedFields' | 'interactions' | 'wideFields' | 'crossLayers' | 'crossRank' | 'crossTower';
export const OWN_OPTIONS: readonly OwnOption[] = [
  'factorisedFields',
  'interactions',
  'wideFields',
  'crossLayers',
  'crossRank',
  'crossTower',
];
