/**
 * Adapted tasks: all that a scorer must know of a task beside the shared variables to score a new row
 * of it exactly as an evaluation would. Workers encode them, coordinators decode and check them.
 *
 * Output blob of an adapt job, tasks in order of the job:
 *   NAME                `[taskCount, ...shape]` by personal variable: the blocks after the inner steps
 *   task.indices        I32 `[taskCount]`
 *   task.ofValues       U8  `[taskCount]`, 1 where the task predicts standardised values, not logits
 *   task.isAlone        U8  `[taskCount]`, 1 where the task adapted alone and is scored alone
 *   support.clicks      F64 `[taskCount]`, and `support.impressions`: sums over the rows adapted on
 * where `model.supportInputs` has target encodings, sums by value of those E features
 *   support.offsets     I32 `[taskCount * E + 1]`: where the values of each task and feature begin
 *   support.ids         I32 `[valueCount]`, and beside it F64 `support.idClicks`, `support.idImpressions`
 * and, where a shift follows the inner steps,
 *   shift.level         `[taskCount]`
 *   shift.variances     `[1 + F]`: prior variances of the level and of the values of each feature
 * with F features whose values are shifted
 *   shift.offsets       I32 `[taskCount * F + 1]`
 *   shift.ids           I32 `[valueCount]`, and beside it `shift.effects`; a value not named has none
 */

import { methodPlanOf } from '../../methods/methods.js';
import { predictionLoopOf } from '../../methods/inner-loop/method.js';
import type { ModelSpec } from '../../models/model-spec.js';
import type { LossKind } from '../../tasks/task-label.js';
import {
  elementCountOf,
  type NamedTensors,
  type TensorLayout,
} from '../../tensors/named-tensors.js';
import { encodeTensors, type CodedTensor, type TensorValues } from '../../tensors/tensor-codec.js';
import type { AdaptWork } from '../protocol.js';

/** Sums over labels. For values, clicks are the weighted standardised values. */
export interface LabelSums {
  readonly clicks: number;
  readonly impressions: number;
}

export interface SupportSums extends LabelSums {
  /** By feature with a target encoding, in their order: sums by id. */
  readonly byValue: readonly ReadonlyMap<number, LabelSums>[];
}

export interface TaskShift {
  readonly level: number;
  /** By shifted feature, in their order: effects by id. */
  readonly effects: readonly ReadonlyMap<number, number>[];
}

export interface AdaptedTask {
  readonly taskIndex: number;
  readonly loss: LossKind;
  /**
   * True if the task was a micro-batch of its own. Graphs of one task sum in another order than those
   * of several, so that its rows are scored in a batch of one task, and those of others never are.
   */
  readonly isAlone: boolean;
  /** Personal variables by name. */
  readonly blocks: NamedTensors;
  /** Null where no shift follows the inner steps. */
  readonly shift: TaskShift | null;
  readonly support: SupportSums;
}

/** The adapted tasks of a job. */
export interface AdaptedTasks {
  readonly tasks: readonly AdaptedTask[];
  /** Prior variances of the level and of each feature's values; null without a shift. */
  readonly shiftVariances: Float32Array | null;
}

/** The parts that adapted tasks of a model and method have. */
export interface AdaptedLayout {
  readonly blocks: TensorLayout;
  /** Features whose values have sums. */
  readonly encodedFeatures: readonly string[];
  /** Features whose values have effects; null without a shift. */
  readonly shiftedFeatures: readonly string[] | null;
}

export function adaptedLayoutOf(
  spec: ModelSpec,
  { method, adaptation }: Pick<AdaptWork, 'method' | 'adaptation'>,
): AdaptedLayout {
  const { shift } = predictionLoopOf(methodPlanOf(method));
  return {
    blocks: new Map(
      spec.variables
        .filter(({ block }) => block === 'personal')
        .map(({ name, shape }) => [name, { shape }]),
    ),
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
    shiftedFeatures: shift === null || adaptation.innerSteps === 0 ? null : shift.features,
  };
}

export function encodeAdaptedTasks(layout: AdaptedLayout, adapted: AdaptedTasks): Uint8Array {
  const { tasks } = adapted;
  const vectors = [...taskVectors(tasks), ...supportVectors(layout, tasks)];
  if (layout.shiftedFeatures !== null) vectors.push(...shiftVectors(layout, adapted));
  return encodeTensors(
    new Map<string, CodedTensor>([
      ...[...layout.blocks].map(([name, { shape }]): [string, CodedTensor] => [
        name,
        { shape: [tasks.length, ...shape], values: blocksOf(tasks, name, elementCountOf(shape)) },
      ]),
      ...vectors.map(([name, values]): [string, CodedTensor] => [
        name,
        { shape: [values.length], values },
      ]),
    ]),
  );
}

type Vector = readonly [string, TensorValues];

function blocksOf(tasks: readonly AdaptedTask[], name: string, size: number): Float32Array {
  const values = new Float32Array(tasks.length * size);
  for (const [place, task] of tasks.entries()) values.set(blockOf(task, name), place * size);
  return values;
}

function taskVectors(tasks: readonly AdaptedTask[]): Vector[] {
  const flags = (is: (task: AdaptedTask) => boolean) =>
    Uint8Array.from(tasks, (t) => Number(is(t)));
  const sums = (of: keyof LabelSums) => Float64Array.from(tasks, ({ support }) => support[of]);
  return [
    ['task.indices', Int32Array.from(tasks, ({ taskIndex }) => taskIndex)],
    ['task.ofValues', flags(({ loss }) => loss === 'squared')],
    ['task.isAlone', flags(({ isAlone }) => isAlone)],
    ['support.clicks', sums('clicks')],
    ['support.impressions', sums('impressions')],
  ];
}

function supportVectors(
  { encodedFeatures }: AdaptedLayout,
  tasks: readonly AdaptedTask[],
): Vector[] {
  if (encodedFeatures.length === 0) return [];
  const { offsets, ids, values } = joined(tasks.map(({ support }) => support.byValue));
  const sums = (of: keyof LabelSums) => Float64Array.from(values, (each) => each[of]);
  return [
    ['support.offsets', offsets],
    ['support.ids', ids],
    ['support.idClicks', sums('clicks')],
    ['support.idImpressions', sums('impressions')],
  ];
}

function shiftVectors(
  { shiftedFeatures }: AdaptedLayout,
  { tasks, shiftVariances }: AdaptedTasks,
): Vector[] {
  if (shiftVariances === null) throw new Error('shifts have prior variances');
  const shifts = tasks.map(shiftOf);
  const ofTasks: Vector[] = [
    ['shift.level', Float32Array.from(shifts, ({ level }) => level)],
    ['shift.variances', shiftVariances],
  ];
  if (shiftedFeatures?.length === 0) return ofTasks;
  const { offsets, ids, values } = joined(shifts.map(({ effects }) => effects));
  return [
    ...ofTasks,
    ['shift.offsets', offsets],
    ['shift.ids', ids],
    ['shift.effects', Float32Array.from(values)],
  ];
}

function blockOf({ blocks }: AdaptedTask, name: string): Float32Array {
  const block = blocks.get(name);
  if (block === undefined) throw new Error(`an adapted task has no block ${name}`);
  return block.values;
}

function shiftOf({ shift }: AdaptedTask): TaskShift {
  if (shift === null) throw new Error('an adapted task has no shift');
  return shift;
}

/** The maps of all tasks and features, one after the other. */
function joined<Value>(byTask: readonly (readonly ReadonlyMap<number, Value>[])[]): {
  readonly offsets: Int32Array;
  readonly ids: Int32Array;
  readonly values: readonly Value[];
} {
  const maps = byTask.flat();
  const offsets = new Int32Array(maps.length + 1);
  let end = 0;
  for (const [place, map] of maps.entries()) {
    end += map.size;
    offsets[place + 1] = end;
  }
  return {
    offsets,
    ids: Int32Array.from(maps.flatMap((map) => [...map.keys()])),
    values: maps.flatMap((map) => [...map.values()]),
  };
}
