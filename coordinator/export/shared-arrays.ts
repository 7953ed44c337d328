/** The arrays of a bundle that are there once: variables, tables, dictionaries, encodings and the key index. */

import type { NamedArray } from '../../shared/bundle/array-files.js';
import type { KeyIndexArrays } from '../../shared/bundle/key-index.js';
import { packedDictionaryOf } from '../../shared/features/packed-dictionary.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { QianmoError } from '../../shared/base/errors.js';
import {
  ofAllParts,
  targetEncodingNameOf,
  targetEncodingsIn,
} from '../../shared/tasks/target-encoding.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';

/** @param unknown personal variables of block 0. */
export function parameterArrays(
  { variables, tables, tableRowWidth }: ModelSpec,
  parameters: MetaParameters,
  unknown: NamedTensors,
): NamedArray[] {
  const valuesOf = (from: NamedTensors, name: string): Float32Array => {
    const values = from.get(name)?.values;
    if (values === undefined) throw new Error(`there is no variable ${name}`);
    return values;
  };
  return [
    ...variables.map(({ name, shape }) => ({
      ...{ name: `dense/${name}`, shape },
      values: valuesOf(parameters.dense, name),
    })),
    ...variables
      .filter(({ block }) => block === 'personal')
      .map(({ name, shape }) => ({
        ...{ name: `unknown/${name}`, shape },
        values: valuesOf(unknown, name),
      })),
    ...tables.map(({ name, rowCount }) => {
      const values = parameters.tables.get(name)?.values;
      if (values === undefined) throw new Error(`there is no table ${name}`);
      return { name: `tables/${name}`, shape: [rowCount, tableRowWidth], values };
    }),
  ];
}

/** The values of every wanted feature that is encoded by dictionary, yielded one feature after the other. */
export async function* dictionaryArrays(
  store: TaskStore,
  isWanted: (featureName: string) => boolean = () => true,
): AsyncGenerator<NamedArray> {
  for (const feature of store.manifest.features) {
    if (feature.kind === 'number' || feature.encoding.by !== 'dictionary') continue;
    if (!isWanted(feature.name)) continue;
    const values = await dictionaryOf(store, feature.name);
    const { bytes, offsets, slots } = packedDictionaryOf(
      Array.from({ length: feature.rowCount }, (_, id) => (id === 0 ? null : (values[id] ?? null))),
    );
    for (const [part, array] of Object.entries({ bytes, offsets, index: slots }))
      yield {
        name: `dictionaries/${feature.name}.${part}`,
        shape: [array.length],
        values: array,
      };
  }
}

/** The inputs of values in the target encodings of the store, yielded one encoding after the other. */
export async function* targetEncodingArrays(store: TaskStore): AsyncGenerator<NamedArray> {
  for (const categories of targetEncodingsIn(store.manifest.features)) {
    if (store.readTargetEncoding === undefined)
      throw new Error('the task store holds no target encodings');
    const { ids, rates, counts } = ofAllParts(await store.readTargetEncoding(categories));
    const name = targetEncodingNameOf(categories);
    const shape = [rates.length];
    for (const [place, values] of ids.entries())
      yield { name: `${name}.ids${place}`, shape, values };
    yield { name: `${name}.rates`, shape, values: rates };
    yield { name: `${name}.counts`, shape, values: counts };
  }
}

async function dictionaryOf(
  store: TaskStore,
  featureName: string,
): Promise<readonly (string | null)[]> {
  if (store.readDictionary !== undefined) return store.readDictionary(featureName);
  throw new QianmoError({
    kind: 'data',
    what: 'the task store holds no dictionaries',
    where: featureName,
    expected: 'the values of the ids of this feature',
    cure: 'export a run on a store that `qianmo prepare` wrote',
  });
}

export function indexArrays(index: KeyIndexArrays): NamedArray[] {
  const { hashes, blocks, keyBytes, keyOffsets } = index;
  return [
    { name: 'index.hashes', shape: [blocks.length, 2], values: hashes },
    { name: 'index.blocks', shape: [blocks.length], values: blocks },
    { name: 'keys.bytes', shape: [keyBytes.length], values: keyBytes },
    { name: 'keys.offsets', shape: [keyOffsets.length], values: keyOffsets },
  ];
}
