/**
 * Names for common choices of personal blocks:
 *
 *   anil  the head only: output layer and bias (Raghu et al., ICLR 2020)
 *   boil  the body only: all layers before the output, the adgroup embedding (Oh et al., ICLR 2021)
 *   all   both (Finn et al., ICML 2017)
 *
 * Embeddings of features, including number features, stay in the trunk. To adapt those of numbers, name
 * `numbers`.
 */

import { z } from 'zod';

export const PersonalPresetSchema = z.enum(['anil', 'boil', 'all']);
type PersonalPreset = z.infer<typeof PersonalPresetSchema>;

/**
 * @param blocks the model's blocks besides bias and embeddings.
 * @returns the blocks of the preset, or null if the model has no such block.
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
