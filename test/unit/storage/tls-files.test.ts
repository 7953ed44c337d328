import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { tlsFilesOf } from '../../../shared/storage/tls-files.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const BYTE_COUNT_MAX = 1024 * 1024;

it('reads certificates up to a size, whole, and refuses larger ones', async () => {
  const folder = await temporaryFolder();
  const file = join(folder.path, 'ca.crt');
  const environment = { QIANMO_REDIS_CA_FILE: file };
  await writeFile(file, 'x'.repeat(BYTE_COUNT_MAX));
  expect((await tlsFilesOf(environment))?.ca).toHaveLength(BYTE_COUNT_MAX);
  await writeFile(file, 'x'.repeat(BYTE_COUNT_MAX + 1));
  await expect(tlsFilesOf(environment)).rejects.toMatchObject({
    kind: 'usage',
    report: { what: 'a file for the connection to Redis is too large', where: file },
  });
  await folder.remove();
});
