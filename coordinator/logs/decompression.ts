/** Decompresses logs that DuckDB does not read, by programs of this machine. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, rename, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import { QianmoError } from '../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../shared/base/system-errors.js';

/** Programs that decompress standard input to standard output with `-dc`. */
const PROGRAMS: Readonly<Record<string, string>> = {
  ...{ xz: 'xz', lzma: 'xz', bz2: 'bzip2', lz4: 'lz4', br: 'brotli' },
};
/** Archives may hold several files. */
const ARCHIVE_COMMANDS: Readonly<Record<string, string>> = { zip: 'unzip -p', '7z': '7z x -so' };
const OF_DUCKDB = ['gz', 'zst', 'zstd'];

export const COMPRESSED = new RegExp(
  `\\.(${[...OF_DUCKDB, ...Object.keys({ ...PROGRAMS, ...ARCHIVE_COMMANDS })].join('|')})$`,
  'i',
);
export const READABLE =
  '.csv, .tsv, .jsonl or .parquet, the first three also with .gz or .zst, or with .xz, .bz2, .lz4 or .br and their program installed';

const endingOf = (name: string): string => name.slice(name.lastIndexOf('.') + 1).toLowerCase();

/** True if the file must be decompressed before DuckDB reads it. */
export function needsDecompression(name: string): boolean {
  return endingOf(name) in PROGRAMS;
}

/** @throws QianmoError of kind `usage` for an archive, also if the format is told. */
export function requireNoArchive(name: string): void {
  const command = ARCHIVE_COMMANDS[endingOf(name)];
  if (command !== undefined) throw unreadable(name, command);
}

function unreadable(name: string, command: string, program?: string): QianmoError {
  const ending = endingOf(name);
  const install = program === undefined ? '' : `install ${program}, or `;
  return new QianmoError({
    kind: 'usage',
    what: `logs compressed as .${ending} are not read${program === undefined ? '' : ` without the program ${program}`}`,
    where: name,
    expected: READABLE,
    cure: `${install}compress it again: ${command} ${name} | gzip > ${name.slice(0, -ending.length)}gz`,
  });
}

interface Decompressed {
  /** As the user knows the compressed file. */
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Streams the file into another one, which is not written again if it is there.
 *
 * @throws QianmoError: `usage` if the program is missing, `data` if it cannot read the file.
 */
export async function decompressFile(
  { name, from, to }: Decompressed,
  signal: AbortSignal,
): Promise<void> {
  if ((await stat(to).catch(() => null)) !== null) return;
  const program = PROGRAMS[endingOf(name)] ?? '';
  const partial = `${to}.partial`;
  await mkdir(dirname(to), { recursive: true });
  const input = await open(from, 'r').catch((cause: unknown) => {
    throw systemFailure(cause, 'reading a log file', name);
  });
  const output = await open(partial, 'w');
  try {
    const child = spawn(program, ['-dc'], { stdio: [input.fd, output.fd, 'pipe'], signal });
    const said = child.stderr === null ? Promise.resolve('') : text(child.stderr);
    await once(child, 'close');
    if (child.exitCode !== 0) throw failureOf(await said, name);
  } catch (cause) {
    signal.throwIfAborted();
    if (systemCodeOf(cause) === 'ENOENT') throw unreadable(name, `${program} -dc`, program);
    throw systemFailure(cause, `decompressing a log by ${program}`, name);
  } finally {
    await Promise.all([input.close(), output.close()]);
  }
  await rename(partial, to);
}

function failureOf(said: string, name: string): QianmoError {
  const isFull = /no space left|disk quota/i.test(said);
  return new QianmoError({
    kind: isFull ? 'environment' : 'data',
    what: isFull
      ? 'the disk is full while decompressing a log'
      : 'a compressed log cannot be read to its end',
    where: name,
    found: said.trim().split('\n')[0] ?? '',
    cure: isFull
      ? 'free up space, or set TMPDIR to a folder on another disk'
      : `copy ${basename(name)} again, or write it again`,
  });
}
