/** The files of a model for other servers. Arrays are written piece by piece. */

import { open, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { onnxModelOf } from './onnx-model.js';
import type { GraphArray, ScoringGraph } from './scoring-graph.js';

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

async function writePieces(file: FileHandle, array: GraphArray, byteOffset: number): Promise<void> {
  let position = byteOffset;
  for (const piece of array.pieces()) {
    await writeWhole(file, piece, position);
    position += piece.byteLength;
  }
}

/** One call may write a part only. */
async function writeWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.byteLength) {
    const length = bytes.byteLength - written;
    written += (await file.write(bytes, written, length, position + written)).bytesWritten;
  }
}
