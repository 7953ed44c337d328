/** Files of lines: half a line of any length is cut off, and no file stays open. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openAppendedLines } from '../../../shared/events/event-log.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const folder = openedForEach(temporaryFolder);
let path: string;
beforeEach(() => {
  path = join(folder.path, 'deep', 'lines.ndjson');
});

async function opened(): Promise<string[]> {
  const taken: string[] = [];
  const file = await openAppendedLines(path, (line, where) => taken.push(`${where} ${line}`));
  await file.close();
  return taken.map((line) => line.replace(path, ''));
}

describe('lines that are appended', () => {
  it('keep every character that is no line break in JSON', async () => {
    await opened();
    const lines = ['\u2028 \u2029', '\u0085\v\f', '\ufeff', '広告😀', ''];
    const content = lines.map((line) => JSON.stringify(line));
    await writeFile(path, `${content.join('\n')}\r\n`);
    expect(await opened()).toEqual(content.map((line, index) => `:${index + 1} ${line}`));
  });

  it.each([1, 2, 3, 65_536])('are whole where they end %i bytes behind a piece', async (behind) => {
    await opened();
    const line = `${'é'.repeat(32_768 - 2)}😀`;
    await writeFile(path, `${'x'.repeat(behind)}\n${line}\n${line}\n`);
    expect(await opened()).toEqual([`:1 ${'x'.repeat(behind)}`, `:2 ${line}`, `:3 ${line}`]);
  });

  it.each([3, 256 * 1024 - 6, 256 * 1024, 700_000])(
    'lose half a line of %i bytes at the end',
    async (byteCount) => {
      await opened();
      await writeFile(path, `whole\n${'x'.repeat(byteCount)}`);
      expect(await opened()).toEqual([':1 whole']);
      expect(await readFile(path, 'utf8')).toBe('whole\n');
      await writeFile(path, 'x'.repeat(byteCount));
      expect(await opened()).toEqual([]);
      expect(await readFile(path, 'utf8')).toBe('');
    },
  );
});
