/** The first rows of a log as a log of their own, so that a bounded part is read as the whole would be. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DuckSession } from './duckdb-session.js';
import { linesOf, parquetScan, unreadableLog } from './log-columns.js';
import type { LogFile } from './log-files.js';
import { literal } from './sql.js';

/** Where a prefix of the file may be written, as the only file of this index. */
interface PrefixPlace {
  readonly folder: string;
  readonly index: number;
}

/**
 * Returns the file itself if it has no more rows. Lines keep their numbers, and the file its name.
 *
 * @throws QianmoError of kind `data` if the first rows cannot be read.
 */
export async function prefixOf(
  file: LogFile,
  rowCountMax: number,
  { folder, index }: PrefixPlace,
  session: DuckSession,
): Promise<{ readonly file: LogFile; readonly isWhole: boolean; readonly rowCountMax: number }> {
  const path = join(folder, `prefix-${index}`);
  try {
    if (file.format === 'parquet') {
      const rowCount = await session.count(parquetScan(file));
      if (rowCount <= rowCountMax) return { file, isWhole: true, rowCountMax: rowCount };
      await session.run(
        `COPY (SELECT * FROM ${parquetScan(file)} LIMIT ${rowCountMax}) TO ${literal(path)} (FORMAT parquet)`,
      );
      return { file: { ...file, path }, isWhole: false, rowCountMax };
    }
    const headerCount = file.format === 'jsonl' ? 0 : 1;
    const lineCountMax = rowCountMax + headerCount;
    const cells = await session.rows(`SELECT line FROM ${linesOf(file)} LIMIT ${lineCountMax + 1}`);
    if (cells.length <= lineCountMax)
      return { file, isWhole: true, rowCountMax: Math.max(0, cells.length - headerCount) };
    const lines = cells.slice(0, lineCountMax).map(([line]) => `${String(line ?? '')}\n`);
    const text = (headerCount === 0 ? lines : withClosedQuotes(lines)).join('');
    await writeFile(path, text);
    const prefix = { ...file, path, byteCount: Buffer.byteLength(text) };
    return { file: prefix, isWhole: false, rowCountMax };
  } catch (cause) {
    throw unreadableLog(file, cause);
  }
}

/** The lines up to the last one after which no quote is open: a text may hold ends of lines. */
function withClosedQuotes(lines: readonly string[]): readonly string[] {
  let isOpen = false;
  let end = lines.length;
  for (const [place, line] of lines.entries()) {
    if ((line.split('"').length - 1) % 2 === 1) isOpen = !isOpen;
    if (!isOpen) end = place + 1;
  }
  return lines.slice(0, end);
}
