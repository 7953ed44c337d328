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

import { methodPlanOf } from '../methods/methods.js';
import { predictionLoopOf } from '../methods/inner-loop/method.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { LossKind } from '../tasks/task-label.js';
import {
  type DenseTensor,
  elementCountOf,
  type NamedTensors,
  type TensorLayout,
} from '../tensors/named-tensors.js';
import {
  type CodedTensor,
  decodeTensors,
  encodeTensors,
  type TensorValues,
} from '../tensors/tensor-codec.js';
import type { AdaptWork } from './protocol.js';
import { at } from '../base/arrays.js';
import { QianmoError } from '../base/errors.js';

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
  readonly blocks: NamedTensors;
  /** Null where no shift follows the inner steps. */
  readonly shift: TaskShift | null;
  readonly support: SupportSums;
}

export interface AdaptedTasks {
  readonly tasks: readonly AdaptedTask[];
  /** Prior variances of the level and of each feature's values; null without a shift. */
  readonly shiftVariances: Float32Array | null;
}

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
  const vector = <Values extends TensorValues>(name: string, Type: TypedArrayOf<Values>): Values =>
    tensors.get(name, Type, [taskCount]);
  const indices = vector('task.indices', Int32Array);
  if (taskIndices.some((taskIndex, place) => indices[place] !== taskIndex))
    throw tensors.malformed('other tasks than those of the job');
  const ofValues = vector('task.ofValues', Uint8Array);
  const alone = vector('task.isAlone', Uint8Array);
  const clicks = vector('support.clicks', Float64Array);
  const impressions = vector('support.impressions', Float64Array);
  const byValue = sumsByValue(tensors, taskCount, encodedFeatures.length);
  const shifts =
    shiftedFeatures === null ? null : shiftsOf(tensors, taskCount, shiftedFeatures.length);
  const shiftVariances =
    shiftedFeatures === null
      ? null
      : tensors.get('shift.variances', Float32Array, [1 + shiftedFeatures.length]);
  const blocks = [...layout.blocks].map(([name, { shape }]) => ({
    ...{ name, shape, size: elementCountOf(shape) },
    values: tensors.get(name, Float32Array, [taskCount, ...shape]),
  }));
  tensors.assertAllRead();
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
    shiftVariances,
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

/** Tensors whose types and shapes are checked as they are read. */
class CheckedTensors {
  readonly #tensors: ReadonlyMap<string, CodedTensor>;
  readonly #where: string;
  readonly #read = new Set<string>();

  constructor(tensors: ReadonlyMap<string, CodedTensor>, where: string) {
    this.#tensors = tensors;
    this.#where = where;
  }

  get<Values extends TensorValues>(
    name: string,
    Type: TypedArrayOf<Values>,
    shape: readonly number[],
  ): Values {
    const tensor = this.#tensors.get(name);
    const expected = `[${shape.join(', ')}]`;
    if (tensor === undefined) throw this.malformed(`no ${name}`);
    if (!(tensor.values instanceof Type) || `[${tensor.shape.join(', ')}]` !== expected)
      throw this.malformed(`${name} that is no ${Type.name} ${expected}`);
    this.#read.add(name);
    return tensor.values;
  }

  /** Maps by id, `[taskCount][featureCount]`, with what makes the value at an index of the ids. */
  maps<Value>(
    group: string,
    [taskCount, featureCount]: readonly [number, number],
    valuesOf: (valueCount: number) => (index: number) => Value,
  ): Map<number, Value>[][] {
    const offsets = this.get(`${group}.offsets`, Int32Array, [taskCount * featureCount + 1]);
    const valueCount = at(offsets, offsets.length - 1);
    const isAscending = offsets.every(
      (offset, index) => index === 0 || offset >= at(offsets, index - 1),
    );
    if (at(offsets, 0) !== 0 || !isAscending)
      throw this.malformed(`${group}.offsets that do not ascend from 0`);
    const ids = this.get(`${group}.ids`, Int32Array, [valueCount]);
    const valueOf = valuesOf(valueCount);
    const mapOf = (place: number): Map<number, Value> => {
      const map = new Map<number, Value>();
      for (let index = at(offsets, place); index < at(offsets, place + 1); index += 1) {
        const id = at(ids, index);
        if (id < 0 || map.has(id)) throw this.malformed(`${group}.ids with ${id} twice or below 0`);
        map.set(id, valueOf(index));
      }
      return map;
    };
    return Array.from({ length: taskCount }, (_, task) =>
      Array.from({ length: featureCount }, (_, feature) => mapOf(task * featureCount + feature)),
    );
  }

  assertAllRead(): void {
    const others = [...this.#tensors.keys()].filter((name) => !this.#read.has(name));
    if (others.length > 0) throw this.malformed(`also ${others.join(', ')}`);
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

function sumsByValue(
  tensors: CheckedTensors,
  taskCount: number,
  featureCount: number,
): Map<number, LabelSums>[][] {
  if (featureCount === 0) return Array.from({ length: taskCount }, () => []);
  return tensors.maps('support', [taskCount, featureCount], (valueCount) => {
    const clicks = tensors.get('support.idClicks', Float64Array, [valueCount]);
    const impressions = tensors.get('support.idImpressions', Float64Array, [valueCount]);
    return (index) => ({ clicks: at(clicks, index), impressions: at(impressions, index) });
  });
}

function shiftsOf(tensors: CheckedTensors, taskCount: number, featureCount: number): TaskShift[] {
  const levels = tensors.get('shift.level', Float32Array, [taskCount]);
  if (featureCount === 0) return Array.from(levels, (level) => ({ level, effects: [] }));
  const effects = tensors.maps('shift', [taskCount, featureCount], (valueCount) => {
    const values = tensors.get('shift.effects', Float32Array, [valueCount]);
    return (index) => at(values, index);
  });
  return effects.map((ofTask, place) => ({ level: at(levels, place), effects: ofTask }));
}
