/**
 * Names for usual choices of personal blocks:
 *
 *   anil  the head alone: output layer and bias (Raghu et al., ICLR 2020)
 *   boil  the body alone: all layers before the output, the adgroup embedding (Oh et al., ICLR 2021)
 *   all   both (Finn et al., ICML 2017)
 *
 * Embeddings of features, those of numbers included, stay in the trunk: name `numbers` for more.
 */

import { z } from 'zod';

export const PersonalPresetSchema = z.enum(['anil', 'boil', 'all']);
export type PersonalPreset = z.infer<typeof PersonalPresetSchema>;

/**
 * @param blocks of the model beside bias and embeddings.
 * @returns the blocks of a preset, or null where the model has none of that sort.
 */
export function presetBlocks(
  preset: PersonalPreset,
  blocks: readonly string[],
  hasAdgroupEmbedding: boolean,
): string[] | null {
  const embedding = hasAdgroupEmbedding ? ['adgroupEmbedding'] : [];
  const body = blocks.filter((block) => block !== 'output');
  switch (preset) {
    case 'anil':
      return blocks.includes('output') ? ['bias', 'output'] : null;
    case 'boil':
      return body.length > 0 ? [...embedding, ...body] : null;
    case 'all':
      return ['bias', ...embedding, ...blocks];
  }
}
