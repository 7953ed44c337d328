/** The cost of each encoding of blocks: bytes, and the loss on query rows of held-out adgroups. */

import { at } from '../../shared/base/arrays.js';
import { readBlock, writeBlock } from '../../shared/bundle/block-codec.js';
import { blockLayoutOf } from '../../shared/bundle/block-layout.js';
import {
  BLOCK_ENCODINGS,
  type BlockEncoding,
  type BlockLayout,
} from '../../shared/bundle/ranking-model.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { lossSum } from '../scoring/metrics.js';
import type { LocalScorer } from './local-scorer.js';
import { encodedRowsOf, type MeasuredAdgroup } from './measured-rows.js';

export interface EncodingLoss {
  readonly encoding: BlockEncoding;
  readonly blockByteCount: number;
  /**
   * Mean loss per impression on the measured rows: logloss, or for values the squared error of the
   * standardised value; null without rows.
   */
  readonly loss: number | null;
  /** The largest change of an output from float32; null without rows. */
  readonly outputChangeMax: number | null;
}

/** The adapted task as a scorer reads it from a block of this layout. */
export function asStored(
  task: AdaptedTask,
  layout: BlockLayout,
  initial: NamedTensors,
): AdaptedTask {
  const bytes = new Uint8Array(layout.strideByteCount);
  const { blocks, shift } = task;
  writeBlock({ layout, initial }, { variables: blocks, level: shift?.level ?? 0 }, bytes);
  const { variables, level } = readBlock({ layout, initial }, bytes);
  return { ...task, blocks: variables, shift: shift === null ? null : { ...shift, level } };
}

interface Measured {
  readonly spec: ModelSpec;
  readonly hasLevel: boolean;
  /** Personal variables of block 0. */
  readonly initial: NamedTensors;
  readonly scorer: LocalScorer;
  readonly adgroups: readonly MeasuredAdgroup[];
  /** By block. */
  readonly tasks: ReadonlyMap<number, AdaptedTask>;
}

/** Outputs of the measured rows by adgroup, as an encoding gives them. */
export function outputsWith(measured: Measured, encoding: BlockEncoding): Float32Array[] {
  const { spec, hasLevel, initial, scorer, adgroups, tasks } = measured;
  const layout = blockLayoutOf(spec, { encoding, hasLevel });
  return scorer.score(
    adgroups.map((adgroup) => {
      const task = tasks.get(adgroup.block);
      if (task === undefined) throw new Error(`block ${adgroup.block} was not kept`);
      return { adapted: asStored(task, layout, initial), rows: encodedRowsOf(adgroup) };
    }),
  );
}

export function encodingLossesOf(measured: Measured): EncodingLoss[] {
  const { spec, hasLevel } = measured;
  const exact = outputsWith(measured, 'float32');
  return BLOCK_ENCODINGS.map((encoding): EncodingLoss => {
    const blockByteCount = blockLayoutOf(spec, { encoding, hasLevel }).strideByteCount;
    const outputs = encoding === 'float32' ? exact : outputsWith(measured, encoding);
    return {
      ...{ encoding, blockByteCount, loss: meanLossOf(measured, outputs) },
      outputChangeMax: largestChange(outputs, exact),
    };
  });
}

function meanLossOf(
  { adgroups, tasks }: Measured,
  outputs: readonly Float32Array[],
): number | null {
  let [loss, shown] = [0, 0];
  for (const [index, { task, places, block }] of adgroups.entries()) {
    const impressions = places.map((row) => at(task.impressions, row));
    const clicks = places.map((row) => at(task.clicks, row));
    const isOfValues = tasks.get(block)?.loss === 'squared';
    const label = isOfValues ? STANDARDISED : undefined;
    loss += lossSum(at(outputs, index), {
      ...(label === undefined ? {} : { label }),
      clicks,
      impressions,
    });
    shown += impressions.reduce((sum, count) => sum + count, 0);
  }
  return shown > 0 ? loss / shown : null;
}

const STANDARDISED = { loss: 'squared', segment: null, mean: 0, deviation: 1 } as const;

function largestChange(
  outputs: readonly Float32Array[],
  exact: readonly Float32Array[],
): number | null {
  let change: number | null = null;
  for (const [index, values] of outputs.entries())
    for (const [row, value] of values.entries())
      change = Math.max(change ?? 0, Math.abs(value - at(at(exact, index), row)));
  return change;
}
