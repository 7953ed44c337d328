/** The files of the npm package. `npm run check -- package` installs it. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { z } from 'zod';

const TARBALL_BYTE_COUNT_MAX = 4_000_000;
const PackedSchema = z
  .array(z.object({ size: z.int(), files: z.array(z.object({ path: z.string() })) }))
  .length(1);

test('it has the runtime, and no tests, sources or results', async () => {
  const words = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const { stdout } = await promisify(execFile)('npm', words, { maxBuffer: 2 ** 26 });
  const [packed] = PackedSchema.parse(JSON.parse(stdout));
  const paths = packed?.files.map(({ path }) => path) ?? [];
  expect(paths).toContain('dist/infra/cli/main.js');
  expect(paths).toContain('infra/bootstrap/qianmo.mjs');
  expect(paths).toEqual(expect.arrayContaining(['README.md', 'README.zh.md']));
  const unwanted = /^(dist\/)?test\/|results\/|(?<!\.d)\.ts$|\.map$|\.log$|tsbuildinfo/;
  expect(paths.filter((path) => unwanted.test(path))).toEqual([]);
  expect(packed?.size).toBeLessThan(TARBALL_BYTE_COUNT_MAX);
});
