/** The files of a model for other servers. Arrays are written piece by piece. */

import { mkdir, open, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '../../../shared/formats/crc32c.js';
import { onnxModelOf } from './onnx-model.js';
import { savedModelOf } from './saved-model.js';
import type { GraphArray, ScoringGraph } from './scoring-graph.js';
import { tensorBundleIndex, type BundledTensor } from './tensor-bundle.js';
import { nodeNameOf } from './tensorflow-nodes.js';
import { TENSORFLOW_TYPE } from './tensorflow-messages.js';

const ONNX_FILE = 'model.onnx';
const ONNX_DATA_FILE = 'model.data';

/** `model.onnx`, and `model.data` where there are large arrays. */
export async function writeOnnxModel(
  graph: ScoringGraph,
  folder: string,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const { bytes, external } = onnxModelOf(graph, ONNX_DATA_FILE, metadata);
  if (external.length > 0)
    await writtenFile(join(folder, ONNX_DATA_FILE), async (file) => {
      for (const { array, byteOffset } of external) await writePieces(file, array, byteOffset);
    });
  await writeFile(join(folder, ONNX_FILE), bytes, { flush: true });
}

/** `saved_model.pb` and `variables/`. */
export async function writeSavedModel(graph: ScoringGraph, folder: string): Promise<void> {
  const variables = join(folder, 'variables');
  await mkdir(variables);
  const tensors: BundledTensor[] = [];
  await writtenFile(join(variables, 'variables.data-00000-of-00001'), async (file) => {
    let byteOffset = 0;
    for (const [place, array] of graph.arrays.entries()) {
      const { byteCount, crc } = await writePieces(file, array, byteOffset);
      const { shape } = array;
      const key = nodeNameOf(graph.arrays, place);
      tensors.push({ key, type: TENSORFLOW_TYPE[array.type], shape, byteOffset, byteCount, crc });
      byteOffset += byteCount;
    }
  });
  await writeFile(join(variables, 'variables.index'), tensorBundleIndex(tensors), { flush: true });
  await writeFile(join(folder, 'saved_model.pb'), savedModelOf(graph), { flush: true });
}

async function writtenFile(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await write(file);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writePieces(
  file: FileHandle,
  array: GraphArray,
  byteOffset: number,
): Promise<{ readonly byteCount: number; readonly crc: number }> {
  let [byteCount, crc] = [0, 0];
  for (const piece of array.pieces()) {
    await writeWhole(file, piece, byteOffset + byteCount);
    crc = crc32c(piece, crc);
    byteCount += piece.byteLength;
  }
  return { byteCount, crc };
}

/** One call may write a part only. */
async function writeWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.byteLength) {
    const length = bytes.byteLength - written;
    written += (await file.write(bytes, written, length, position + written)).bytesWritten;
  }
}
