/**
 * Adapted tasks: all that a scorer must know of a task in addition to the shared variables to score a new row
 * of it exactly as an evaluation would. Workers encode them, coordinators decode and check them.
 *
 * Output blob of an adapt job, tasks in order of the job:
 *   NAME       `[taskCount, ...shape]` by own variable of the spec: the blocks after the inner steps
 *   numbers    F64, end to end: for each task its index, 1 if it predicts standardised values and not logits, 1 if it
 *              adapted alone, the sums of clicks and impressions over the rows adapted on; by feature with a target
 *              encoding, a list of id, clicks, impressions. The length of a list comes before it.
 */

import { type QianmoError, errorOf } from '../base/errors.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { LossKind } from '../tasks/task-label.js';
import {
  type DenseTensor,
  type NamedTensors,
  type TensorLayout,
  elementCountOf,
} from '../tensors/named-tensors.js';
import { type CodedTensor, decodeTensors, encodeTensors } from '../tensors/tensor-codec.js';

/** Sums over labels. For values, clicks are the weighted standardised values. */
interface LabelSums {
  readonly clicks: number;
  readonly impressions: number;
}

export interface SupportSums extends LabelSums {
  /** By feature with a target encoding, in their order: sums by id. */
  readonly byValue: readonly ReadonlyMap<number, LabelSums>[];
}

export interface AdaptedTask {
  readonly taskIndex: number;
  readonly loss: LossKind;
  /**
   * True if the task was a micro-batch of its own. Graphs of one task sum in another order than those
   * of several, so its rows are scored in a batch of one task.
   */
  readonly isAlone: boolean;
  readonly blocks: NamedTensors;
  readonly support: SupportSums;
}

interface AdaptedLayout {
  readonly blocks: TensorLayout;
  /** Features whose values have sums. */
  readonly encodedFeatures: readonly string[];
}

export function adaptedLayoutOf(spec: ModelSpec): AdaptedLayout {
  return {
    blocks: new Map(spec.ownVariables.map(({ name, shape }) => [name, { shape }])),
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
  };
}

export function encodeAdaptedTasks(
  layout: AdaptedLayout,
  tasks: readonly AdaptedTask[],
): Uint8Array {
  const numbers: number[] = [];
  for (const { taskIndex, loss, isAlone, support } of tasks) {
    numbers.push(taskIndex, Number(loss === 'squared'), Number(isAlone));
    numbers.push(support.clicks, support.impressions);
    for (const sums of support.byValue) {
      numbers.push(sums.size);
      for (const [id, { clicks, impressions }] of sums) numbers.push(id, clicks, impressions);
    }
  }
  const tensors = new Map<string, CodedTensor>([
    ['numbers', { shape: [numbers.length], values: Float64Array.from(numbers) }],
  ]);
  for (const [name, { shape }] of layout.blocks) {
    const size = elementCountOf(shape);
    const values = new Float32Array(tasks.length * size);
    for (const [place, { blocks }] of tasks.entries()) {
      const block = blocks.get(name);
      if (block === undefined) throw new Error(`an adapted task has no block ${name}`);
      values.set(block.values, place * size);
    }
    tensors.set(name, { shape: [tasks.length, ...shape], values });
  }
  return encodeTensors(tensors);
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
): readonly AdaptedTask[] {
  const malformed = (found: string): QianmoError =>
    errorOf('data', 'the output of an adapt job does not fit its tasks', {
      ...{ where, found },
      cure: 'coordinator and worker must run the same version on the same store',
    });
  const tensors = decodeTensors(bytes, where);
  const blocks = [...layout.blocks].map(([name, { shape }]) => {
    const { values, shape: found } = tensors.get(name) ?? {};
    if (
      !(values instanceof Float32Array) ||
      found?.join() !== [taskIndices.length, ...shape].join()
    )
      throw malformed(`no ${name} of the expected shape`);
    return { name, shape, size: elementCountOf(shape), values };
  });
  const coded = tensors.get('numbers')?.values;
  if (!(coded instanceof Float64Array) || tensors.size !== blocks.length + 1)
    throw malformed('other tensors than the expected ones');
  const numbers = new NumberReader(coded, malformed);
  const readSums = (): LabelSums => ({ clicks: numbers.next(), impressions: numbers.next() });
  const tasks = taskIndices.map((taskIndex, place): AdaptedTask => {
    if (numbers.next() !== taskIndex) throw malformed('other tasks than those of the job');
    const loss = numbers.next() === 1 ? 'squared' : 'binary';
    const isAlone = numbers.next() === 1;
    const sums = readSums();
    return {
      ...{ taskIndex, loss, isAlone },
      blocks: new Map(
        blocks.map(({ name, shape, size, values }): [string, DenseTensor] => [
          name,
          { shape, values: values.subarray(place * size, (place + 1) * size) },
        ]),
      ),
      support: { ...sums, byValue: layout.encodedFeatures.map(() => numbers.map(readSums)) },
    };
  });
  numbers.assertAllRead();
  return tasks;
}

class NumberReader {
  readonly #numbers: Float64Array;
  readonly #malformed: (found: string) => QianmoError;
  #place = 0;

  constructor(numbers: Float64Array, malformed: (found: string) => QianmoError) {
    this.#numbers = numbers;
    this.#malformed = malformed;
  }

  next(): number {
    const number = this.#numbers[this.#place];
    this.#place += 1;
    if (number === undefined) throw this.#malformed('too few numbers');
    return number;
  }

  /** Reads a list of values by id. */
  map<Value>(read: () => Value): Map<number, Value> {
    const map = new Map<number, Value>();
    for (let left = this.next(); left > 0; left -= 1) {
      const id = this.next();
      if (!Number.isInteger(id) || id < 0 || map.has(id))
        throw this.#malformed(`the id ${id}, twice or not an id`);
      map.set(id, read());
    }
    return map;
  }

  assertAllRead(): void {
    if (this.#place !== this.#numbers.length) throw this.#malformed('too many numbers');
  }
}

/** Returns whether every number of adapted tasks is finite; those of a task that diverged are not. */
export function areFinite(tasks: readonly AdaptedTask[]): boolean {
  return tasks.every(
    ({ blocks, support }) =>
      [...blocks.values()].every(({ values }) => values.every(Number.isFinite)) &&
      [support, ...support.byValue.flatMap((sums) => [...sums.values()])].every(
        (sums) => Number.isFinite(sums.clicks) && Number.isFinite(sums.impressions),
      ),
  );
}
