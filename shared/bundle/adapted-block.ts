/** A block as an adapted task, for the scorer that runs the captured graph. */

import { at } from '../base/arrays.js';
import type { AdaptedTask, SupportSums, TaskShift } from './adapted-tasks.js';
import { blockBytes, readBlock } from './block-codec.js';
import type { BlockEvidence, PersonalBlocks, RankingModel, ValueLists } from './ranking-model.js';

export function adaptedTaskOf({ dense, shift, blocks }: RankingModel, block: number): AdaptedTask {
  const { layout, evidence, isOfValues, isAlone } = blocks;
  const { variables, level } = readBlock({ layout, initial: dense }, blockBytes(blocks, block));
  return {
    taskIndex: block,
    loss: at(isOfValues, block) === 1 ? 'squared' : 'binary',
    isAlone: at(isAlone, block) === 1,
    blocks: variables,
    shift: shift === null || layout.levelByteOffset === null ? null : shiftOf(blocks, block, level),
    support: supportOf(evidence, block),
  };
}

function shiftOf({ effects }: PersonalBlocks, block: number, level: number): TaskShift {
  if (effects === null) return { level, effects: [] };
  return { level, effects: mapsOf(effects, block, (entry) => at(effects.effects, entry)) };
}

function supportOf({ clicks, impressions, byValue }: BlockEvidence, block: number): SupportSums {
  const sumsOf = (entry: number, from: Pick<BlockEvidence, 'clicks' | 'impressions'>) => ({
    clicks: at(from.clicks, entry),
    impressions: at(from.impressions, entry),
  });
  return {
    ...sumsOf(block, { clicks, impressions }),
    byValue: byValue === null ? [] : mapsOf(byValue, block, (entry) => sumsOf(entry, byValue)),
  };
}

/** The lists of a block, by feature. */
function mapsOf<Value>(
  { features, offsets, ids }: ValueLists,
  block: number,
  valueOf: (entry: number) => Value,
): ReadonlyMap<number, Value>[] {
  return features.map((_, feature) => {
    const list = block * features.length + feature;
    const map = new Map<number, Value>();
    for (let entry = at(offsets, list); entry < at(offsets, list + 1); entry += 1)
      map.set(at(ids, entry), valueOf(entry));
    return map;
  });
}
