/** Reads the output of an adapt job, laid out as `adapted-tasks.ts` says, and checks all of it. */

import { at } from '../../base/arrays.js';
import { QianmoError } from '../../base/errors.js';
import {
  elementCountOf,
  layoutDifferences,
  type DenseTensor,
  type TensorLayout,
} from '../../tensors/named-tensors.js';
import { decodeTensors, type CodedTensor, type TensorValues } from '../../tensors/tensor-codec.js';
import type {
  AdaptedLayout,
  AdaptedTask,
  AdaptedTasks,
  LabelSums,
  TaskShift,
} from './adapted-tasks.js';

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
