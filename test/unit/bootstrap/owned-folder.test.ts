import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openOwnedFolder } from '#services/owned-folder.mjs';

let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'qianmo-test-folders-'));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** A process that has opened a folder, and lives until it is killed. */
async function owner() {
  const module = new URL('../../../infra/services/owned-folder.mjs', import.meta.url).href;
  const script = `const { openOwnedFolder } = await import(${JSON.stringify(module)});
    console.log(openOwnedFolder('kind', ${JSON.stringify(parent)}));
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output] = (await once(child.stdout, 'data')) as [Buffer]; // bytes: no encoding set
  return { child, folder: output.toString().trim() };
}

it('removes the folder of a killed process, and of no other', async () => {
  const [killed, live] = [await owner(), await owner()];
  const unowned = join(parent, 'kind-unowned');
  await mkdir(unowned);
  killed.child.kill('SIGKILL');
  await once(killed.child, 'exit');
  const own = openOwnedFolder('kind', parent);
  expect((await stat(own)).mode & 0o777).toBe(0o700);
  expect(await Promise.all([killed.folder, live.folder, unowned, own].map(exists))).toEqual([
    false,
    true,
    true,
    true,
  ]);
  openOwnedFolder('kind', parent);
  expect(await exists(own)).toBe(true);
  live.child.kill('SIGKILL');
  await once(live.child, 'exit');
});
