/** Reads a dictionary of a task store: the value of each id, null for id 0. */

import { tableFromIPC, type Data } from '../formats/arrow.js';
import { QianmoError } from '../base/errors.js';
import { checkArrowBytes } from './arrow-check.js';
import { RESTORE_CURE } from './store-files.js';

/** @throws QianmoError of kind `data` if the bytes are not a dictionary. */
export function decodeDictionary(bytes: Uint8Array, fileName: string): (string | null)[] {
  try {
    checkArrowBytes(bytes);
    const values = tableFromIPC(bytes).getChild('value');
    if (values === null) throw new Error('there is no column "value"');
    return values.data.flatMap(textsOf);
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'a dictionary of the task store cannot be read',
      where: fileName,
      cure: RESTORE_CURE,
      cause,
    });
  }
}

/** Arrow's own reading of a text drops a byte order mark at its start, which is part of the value. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function textsOf(data: Data): (string | null)[] {
  const { valueOffsets, values } = data as { valueOffsets: unknown; values: unknown };
  if (!(valueOffsets instanceof Int32Array) || !(values instanceof Uint8Array))
    throw new Error('the column "value" does not hold texts');
  return Array.from({ length: data.length }, (_, index) =>
    data.getValid(index)
      ? decoder.decode(values.subarray(valueOffsets[index], valueOffsets[index + 1]))
      : null,
  );
}
