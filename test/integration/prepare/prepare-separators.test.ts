/** Files with semicolons, tabs or bars between their fields are read like those with commas. */

import { describe, expect, test } from 'vitest';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const ROWS = Array.from({ length: 24 }, (_, n) => [
  `ad${n % 3}`,
  ['news, daily', 'a;b', 'c|d', 'plain'][n % 4] ?? '',
  String(n % 2),
]);

function fileWith(separator: string, header: readonly string[]): string {
  const quoted = (field: string): string => (/[,;|\t]/.test(field) ? `"${field}"` : field);
  return [header, ...ROWS].map((fields) => `${fields.map(quoted).join(separator)}\n`).join('');
}

/** The digests of the files of the store. */
async function storeOf(content: string): Promise<unknown> {
  const logs = await room.write('separated.csv', content);
  const { files, rowCount } = await room.prepare(room.config({ logs }), { force: true });
  expect(rowCount).toBe(ROWS.length);
  return files;
}

describe('a CSV file', () => {
  test.each([
    [';', 'semicolons'],
    ['\t', 'tabs'],
    ['|', 'bars'],
  ])('with %j between its fields (%s) gives the store of one with commas', async (separator) => {
    const header = ['ad', 'site', 'clicked'];
    const commas = await storeOf(fileWith(',', header));
    expect(await storeOf(fileWith(separator, header))).toEqual(commas);
  });

  test('has commas if its header has one outside of quotes', async () => {
    const content = fileWith(',', ['ad', 'site', 'clicked', 'x;y']).replace(/^ad\d.*$/gm, '$&,1');
    const logs = await room.write('separated.csv', content);
    const config = room.config({
      logs,
      features: [{ name: 'odd', kind: 'category', column: 'x;y' }],
    });
    expect((await room.prepare(config)).features).toMatchObject([{ name: 'odd' }]);
  });
});

test('a spreadsheet ends rows by CR and LF, and lines within a text by LF alone', async () => {
  const lines = ['ad,site,clicked', 'a,"x\ny",1', 'a,z,0', 'a,"x\ny",2', 'a,z,1', ''];
  await room.write('log.csv', lines.join('\r\n'));
  const manifest = await room.prepare(room.config({ rejectedRowsMax: 1 }));
  expect(manifest).toMatchObject({ rowCount: 3, rejectedRowCount: 1 });
  expect(await room.rejected()).toMatchObject([{ line: 5, row: 2 }]);
});
