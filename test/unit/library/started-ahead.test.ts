/** A command that is refused ends the processes that it started before it read its config. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';

/** Tells the test's own processes from others, whoever their parent is by now. */
const MARK = `QIANMO_MARK_OF_TEST=${process.pid}`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qianmo-ahead-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The entries of the running processes that have the mark. */
function markedEntries(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, 'utf8').includes(MARK)) return [];
        return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[1] ?? ''];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
}

function started(way: readonly string[], config = 'missing.yaml') {
  const [name = '', value = ''] = MARK.split('=');
  return spawn(
    process.execPath,
    [join(packageRoot.pathname, 'infra/bin/qianmo.mjs'), 'train', config, ...way],
    { cwd: folder, env: { ...process.env, [name]: value }, stdio: ['ignore', 'ignore', 'pipe'] },
  );
}

async function untilMarked(isWanted: (entries: string[]) => boolean): Promise<void> {
  while (!isWanted(markedEntries())) await systemClock.sleep(5);
}

it.runIf(existsSync('/proc/self/environ')).each([
  [[], /compute\/main\.js$/],
  [['--processes', '2'], /compute\/main\.js$/],
  [['--workers', '2'], /worker\/main\.js$/],
])('%j: a config that is not there', async (way, entry) => {
  const command = started(way);
  const exit = once(command, 'exit');
  let text = '';
  command.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
  await untilMarked((entries) => entries.some((each) => entry.test(each)));
  expect((await exit)[0], text).toBe(2);
  await untilMarked((entries) => entries.length === 0);
});

it.runIf(existsSync('/proc/self/environ'))('starts nothing for the help', async () => {
  const command = started(['--help']);
  const seen = new Set<string>();
  while (command.exitCode === null) {
    for (const each of markedEntries()) seen.add(each);
    await systemClock.sleep(5);
  }
  expect([...seen].filter((each) => !each.endsWith('qianmo.mjs') && each !== '')).toEqual([]);
});
