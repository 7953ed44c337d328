/** Files of lines that are appended to: half a line at the end is what a process that was killed has left. */

import { createReadStream, type ReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { makeFolderDurably, syncFolder } from '../storage/file-bytes.js';

const LINE_BREAK = 10;
const PIECE_BYTE_COUNT = 256 * 1024;

/**
 * Opens the file for appending, makes it where it is missing, and cuts off half a line at its end.
 * @param take gets each line that is left, in order, with its place as `path:number`
 * @throws what `take` throws; then no file stays open.
 */
export async function openAppendedLines(
  path: string,
  take: (line: string, where: string) => void,
): Promise<FileHandle> {
  await makeFolderDurably(dirname(path));
  const file = await open(path, 'a+');
  try {
    await cutHalfLine(file);
    await syncFolder(dirname(path));
    let number = 0;
    for await (const line of linesOf(createReadStream(path))) {
      number += 1;
      take(line, `${path}:${number}`);
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * The lines of a file, which is closed when the reading ends, also where it ends early. `node:readline` ends a line at U+2028
 * and U+2029 too, from Node 24 on, and JSON has both within texts.
 */
export async function* linesOf(input: ReadStream): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let begun = '';
  try {
    for await (const chunk of input as AsyncIterable<string | Buffer>) {
      const text = typeof chunk === 'string' ? chunk : decoder.write(chunk);
      const [first = '', ...others] = text.split('\n');
      begun += first;
      for (const next of others) {
        yield withoutReturn(begun);
        begun = next;
      }
    }
    if (begun !== '') yield withoutReturn(begun);
  } finally {
    const closed = new Promise<void>((resolve) => {
      if (input.closed) resolve();
      else input.once('close', resolve);
    });
    input.destroy();
    await closed;
  }
}

function withoutReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

export async function cutHalfLine(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const piece = Buffer.alloc(Math.min(size, PIECE_BYTE_COUNT));
  for (let end = size; end > 0;) {
    const start = Math.max(0, end - piece.byteLength);
    const { bytesRead } = await file.read(piece, 0, end - start, start);
    const wholeByteCount = wholeLinesByteCount(piece.subarray(0, bytesRead));
    if (wholeByteCount > 0 || start === 0) {
      if (start + wholeByteCount < size) await file.truncate(start + wholeByteCount);
      return;
    }
    end = start;
  }
}

/** Returns the length of the whole lines. A process that was killed may have left half a line. */
export function wholeLinesByteCount(bytes: Uint8Array): number {
  return bytes.lastIndexOf(LINE_BREAK) + 1;
}
