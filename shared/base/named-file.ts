/** Reads a small text file that a variable of the environment names: a key, or a certificate. */

import { open } from 'node:fs/promises';
import { errorOf } from './errors.js';

interface NamedFile {
  readonly file: string;
  readonly variable: string;
  /** For messages: `the file of the signing key`. */
  readonly what: string;
  /** A file that is larger is not read further. */
  readonly byteCountMax: number;
}

/** @throws QianmoError `environment` for a file that cannot be read, `usage` for one that is too large. */
export async function textOfNamedFile(named: NamedFile): Promise<string> {
  const { file, variable, what, byteCountMax } = named;
  const bytes = Buffer.alloc(byteCountMax + 1);
  let byteCount = 0;
  try {
    const handle = await open(file, 'r');
    try {
      // One read may bring a part of the file.
      for (let readCount = 1; readCount > 0; byteCount += readCount)
        readCount = (await handle.read(bytes, byteCount, bytes.length - byteCount)).bytesRead;
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw errorOf('environment', `${what} cannot be read`, {
      where: file,
      found: cause instanceof Error ? cause.message : String(cause),
      cure: `correct ${variable}`,
      cause,
    });
  }
  if (byteCount <= byteCountMax) return bytes.toString('utf8', 0, byteCount);
  throw errorOf('usage', `${what} is too large`, {
    where: file,
    expected: `at most ${byteCountMax} bytes`,
    cure: `correct ${variable}`,
  });
}
