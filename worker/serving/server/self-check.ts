/** What a server looks up, compared with the self-check rows of a bundle: keys, labels, and the texts of ids. */

import { at, int32At, uint32At, uint8At } from '../../../shared/base/arrays.js';
import { UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { valueLookup, type ScoringAddon } from '../kernel-scorer.js';

/** Something of a self-check row that is not what the export wrote. */
export interface Difference {
  readonly what: string;
  readonly expected: string;
  readonly found: string;
}

/** Null if there is none. Ids of hashed values and numbers cannot be turned back into what they encode. */
export function wronglyLookedUp(
  bundle: Pick<LoadedBundle, 'manifest' | 'model' | 'index' | 'labels' | 'encoder' | 'selfCheck'>,
  addon: Pick<ScoringAddon, 'lookUpKeys' | 'lookUpValues' | 'lookUpBuckets'>,
): Difference | null {
  return wrongKey(bundle, addon) ?? wrongLabel(bundle) ?? wrongId(bundle, addon);
}

function wrongKey(
  { index, selfCheck }: Parameters<typeof wronglyLookedUp>[0],
  addon: Pick<ScoringAddon, 'lookUpKeys'>,
): Difference | null {
  const { keyBytes, keyOffsets, hashes, blocks } = index;
  const asked = selfCheck.blocks.filter((block) => block !== UNKNOWN_BLOCK);
  const found = new Int32Array(asked.length);
  const arrays = [hashes, blocks, keyBytes, keyOffsets] as const;
  const room = new Uint32Array(2 * asked.length);
  addon.lookUpKeys(keyBytes, spansOf(keyOffsets, asked), ...arrays, found, room);
  return differing('the key of an adgroup leads to another block', asked, found);
}

function wrongLabel({
  manifest,
  model,
  labels,
  selfCheck,
}: Parameters<typeof wronglyLookedUp>[0]): Difference | null {
  // Block 0 is that of all labels.
  const asked = selfCheck.blocks.filter((block) => block !== UNKNOWN_BLOCK);
  const expected = asked.map((block) => uint8At(model.blocks.isOfValues, block));
  const found = asked.map((block) =>
    Number(manifest.labels[int32At(labels, block)]?.loss === 'squared'),
  );
  return differing('the label of a block does not say whether it predicts values', expected, found);
}

function wrongId(
  { encoder, selfCheck: { rows } }: Parameters<typeof wronglyLookedUp>[0],
  addon: Parameters<typeof valueLookup>[0],
): Difference | null {
  const places = { category: 0, bag: 0, number: 0 };
  for (const { name, kind, textIds } of encoder.features) {
    const place = places[kind]++;
    if (kind === 'number' || textIds === null || textIds.dictionary === null) continue;
    const { bytes, offsets } = textIds.dictionary;
    const ids = at(kind === 'bag' ? rows.bagIds : rows.categoryIds, place);
    const asked = ids.filter((id) => id > 0 && uint32At(offsets, id) < uint32At(offsets, id + 1));
    const found = new Int32Array(asked.length);
    const texts = { form: 'texts', bytes, spans: spansOf(offsets, asked) } as const;
    valueLookup(addon, textIds)(texts, asked.length, { target: found, first: 0, stride: 1 });
    const wrong = differing(`a text of the feature ${name} has another id`, asked, found);
    if (wrong !== null) return wrong;
  }
  return null;
}

/** `[count, 2]`: where texts begin and end. */
function spansOf(offsets: Uint32Array, places: Int32Array): Uint32Array {
  const spans = new Uint32Array(2 * places.length);
  for (const [index, place] of places.entries())
    spans.set([uint32At(offsets, place), uint32At(offsets, place + 1)], 2 * index);
  return spans;
}

function differing(what: string, expected: Int32Array, found: Int32Array): Difference | null {
  const place = expected.findIndex((value, index) => value !== int32At(found, index));
  if (place < 0) return null;
  return { what, expected: String(at(expected, place)), found: String(at(found, place)) };
}
