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
  type DenseTensor,
  elementCountOf,
  layoutDifferences,
  type NamedTensors,
  type TensorLayout,
} from '../../tensors/named-tensors.js';
import {
  type CodedTensor,
  decodeTensors,
  encodeTensors,
  type TensorValues,
} from '../../tensors/tensor-codec.js';
import type { AdaptWork } from '../protocol.js';
import { at } from '../../base/arrays.js';
import { QianmoError } from '../../base/errors.js';

/** Sums over labels. For values, clicks are the weighted standardised values. */
interface LabelSums {
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

/**
 * @param taskIndices of the job, in its order.
 * @throws QianmoError of kind `data` when the bytes are not the adapted tasks of this layout.
 */
export function decodeAdaptedTasks(
  bytes: Uint8Array,
  layout: AdaptedLayout,
  taskIndices: readonly number[],
  where: string,
): AdaptedTasks {
  const tensors = new CheckedTensors(decodeTensors(bytes, where), where);
  const taskCount = taskIndices.length;
  const { encodedFeatures, shiftedFeatures } = layout;
  tensors.requireLayout(tensorLayoutOf(layout, taskCount, tensors));
  const indices = tensors.get('task.indices', Int32Array);
  if (taskIndices.some((taskIndex, place) => indices[place] !== taskIndex))
    throw tensors.malformed('other tasks than those of the job');
  const ofValues = tensors.get('task.ofValues', Uint8Array);
  const alone = tensors.get('task.isAlone', Uint8Array);
  const clicks = tensors.get('support.clicks', Float64Array);
  const impressions = tensors.get('support.impressions', Float64Array);
  const byValue = sumsByValue(tensors, taskCount, encodedFeatures.length);
  const shifts =
    shiftedFeatures === null ? null : shiftsOf(tensors, taskCount, shiftedFeatures.length);
  const blocks = [...layout.blocks].map(([name, { shape }]) => ({
    ...{ name, shape, size: elementCountOf(shape) },
    values: tensors.get(name, Float32Array),
  }));
  return {
    tasks: taskIndices.map((taskIndex, place): AdaptedTask => ({
      taskIndex,
      loss: at(ofValues, place) === 1 ? 'squared' : 'binary',
      isAlone: at(alone, place) === 1,
      blocks: new Map(
        blocks.map(({ name, shape, size, values }): [string, DenseTensor] => [
          name,
          { shape, values: values.subarray(place * size, (place + 1) * size) },
        ]),
      ),
      shift: shifts === null ? null : at(shifts, place),
      support: {
        clicks: at(clicks, place),
        impressions: at(impressions, place),
        byValue: at(byValue, place),
      },
    })),
    shiftVariances: shifts === null ? null : tensors.get('shift.variances', Float32Array),
  };
}

/** Returns whether every number of adapted tasks is finite; those of a task that diverged are not. */
export function areFinite({ tasks, shiftVariances }: AdaptedTasks): boolean {
  return (
    (shiftVariances?.every(Number.isFinite) ?? true) &&
    tasks.every(
      ({ blocks, shift, support }) =>
        [...blocks.values()].every(({ values }) => values.every(Number.isFinite)) &&
        (shift === null ||
          (Number.isFinite(shift.level) &&
            shift.effects.every((effects) => [...effects.values()].every(Number.isFinite)))) &&
        [support, ...support.byValue.flatMap((sums) => [...sums.values()])].every(
          (sums) => Number.isFinite(sums.clicks) && Number.isFinite(sums.impressions),
        ),
    )
  );
}

type TypedArrayOf<Values extends TensorValues> = new (length: number) => Values;

/** Tensors whose types are checked as they are read. */
class CheckedTensors {
  readonly #tensors: ReadonlyMap<string, CodedTensor>;
  readonly #where: string;

  constructor(tensors: ReadonlyMap<string, CodedTensor>, where: string) {
    this.#tensors = tensors;
    this.#where = where;
  }

  requireLayout(expected: TensorLayout): void {
    const differences = layoutDifferences(this.#tensors, expected);
    if (differences.length > 0) throw this.malformed(differences.join('; '));
  }

  /** 0 where there is no such tensor: the layout is checked afterwards. */
  lengthOf(name: string): number {
    return this.#tensors.get(name)?.values.length ?? 0;
  }

  get<Values extends TensorValues>(name: string, Type: TypedArrayOf<Values>): Values {
    const values = this.#tensors.get(name)?.values;
    if (!(values instanceof Type))
      throw this.malformed(`${name} of another type than ${Type.name}`);
    return values;
  }

  malformed(found: string): QianmoError {
    return new QianmoError({
      kind: 'data',
      what: 'the output of an adapt job does not fit its tasks',
      where: this.#where,
      found,
      cure: 'coordinator and worker must run the same version on the same store',
    });
  }
}

const TASK_VECTORS = [
  ...['task.indices', 'task.ofValues', 'task.isAlone'],
  ...['support.clicks', 'support.impressions'],
];

function tensorLayoutOf(
  { blocks, encodedFeatures, shiftedFeatures }: AdaptedLayout,
  taskCount: number,
  tensors: CheckedTensors,
): TensorLayout {
  const vector = (name: string, length: number) => [name, { shape: [length] }] as const;
  const byValue = (group: string, featureCount: number, values: readonly string[]) => {
    const valueCount = tensors.lengthOf(`${group}.ids`);
    return [
      vector(`${group}.offsets`, taskCount * featureCount + 1),
      ...['ids', ...values].map((name) => vector(`${group}.${name}`, valueCount)),
    ];
  };
  return new Map<string, { readonly shape: readonly number[] }>([
    ...[...blocks].map(([name, { shape }]) => [name, { shape: [taskCount, ...shape] }] as const),
    ...TASK_VECTORS.map((name) => vector(name, taskCount)),
    ...(encodedFeatures.length === 0
      ? []
      : byValue('support', encodedFeatures.length, ['idClicks', 'idImpressions'])),
    ...(shiftedFeatures === null
      ? []
      : [
          vector('shift.level', taskCount),
          vector('shift.variances', 1 + shiftedFeatures.length),
          ...(shiftedFeatures.length === 0
            ? []
            : byValue('shift', shiftedFeatures.length, ['effects'])),
        ]),
  ]);
}

function sumsByValue(
  tensors: CheckedTensors,
  taskCount: number,
  featureCount: number,
): Map<number, LabelSums>[][] {
  if (featureCount === 0) return Array.from({ length: taskCount }, () => []);
  const clicks = tensors.get('support.idClicks', Float64Array);
  const impressions = tensors.get('support.idImpressions', Float64Array);
  return mapsOf(tensors, 'support', featureCount, (index) => ({
    clicks: at(clicks, index),
    impressions: at(impressions, index),
  }));
}

function shiftsOf(tensors: CheckedTensors, taskCount: number, featureCount: number): TaskShift[] {
  const levels = tensors.get('shift.level', Float32Array);
  if (featureCount === 0)
    return Array.from({ length: taskCount }, (_, place) => ({
      ...{ level: at(levels, place), effects: [] },
    }));
  const values = tensors.get('shift.effects', Float32Array);
  const effects = mapsOf(tensors, 'shift', featureCount, (index) => at(values, index));
  return effects.map((ofTask, place) => ({ level: at(levels, place), effects: ofTask }));
}

/** Maps by id, `[taskCount][featureCount]`. */
function mapsOf<Value>(
  tensors: CheckedTensors,
  group: string,
  featureCount: number,
  valueOf: (index: number) => Value,
): Map<number, Value>[][] {
  const offsets = tensors.get(`${group}.offsets`, Int32Array);
  const ids = tensors.get(`${group}.ids`, Int32Array);
  const isAscending = offsets.every(
    (offset, index) => index === 0 || offset >= at(offsets, index - 1),
  );
  if (at(offsets, 0) !== 0 || at(offsets, offsets.length - 1) !== ids.length || !isAscending)
    throw tensors.malformed(`${group}.offsets that do not ascend from 0 to ${ids.length}`);
  const maps: Map<number, Value>[] = [];
  for (let place = 0; place + 1 < offsets.length; place += 1) {
    const map = new Map<number, Value>();
    for (let index = at(offsets, place); index < at(offsets, place + 1); index += 1) {
      const id = at(ids, index);
      if (id < 0 || map.has(id))
        throw tensors.malformed(`${group}.ids with ${id} twice or below 0`);
      map.set(id, valueOf(index));
    }
    maps.push(map);
  }
  return Array.from({ length: maps.length / featureCount }, (_, task) =>
    maps.slice(task * featureCount, (task + 1) * featureCount),
  );
}
