/**
 * `qianmo refresh` as a user calls it: killed at any stage it leaves a whole store and a whole bundle, goes on
 * to the same bundle, and does nothing the second time.
 */

import { readFile, rename, rm, watch } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';
import { systemClock } from '../../../shared/base/clock.js';
import { makeHolder, withFileLock } from '../../../shared/storage/file-lock.js';
import { laterLog } from '../../fixtures/commands/small-run.js';

interface Printed {
  readonly digest: string;
  readonly base: string;
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  readonly append: { readonly logRowCount: number } | null;
  readonly knownFileCount: number;
}

const WORDS = ['refresh', 'small.yaml', '--logs', 'later.csv', '--format', 'json'];

let room: CommandRoom;
let undisturbed: Printed;
beforeAll(async () => {
  room = await commandRoom();
  await room.config('small', (config) => {
    config.data['rowSplit'] = { by: 'time' };
    config['evaluation'] = { innerRates: [0.3], innerSteps: [2], bootstrapSamples: 100 };
  });
  await room.write('later.csv', laterLog());
  for (const verb of ['prepare', 'train', 'evaluate', 'export'])
    await room.done([verb, 'small.yaml']);
  await room.copy('store', 'first/store');
  await room.copy('small', 'first/small');
  undisturbed = JSON.parse(await room.done(WORDS)) as Printed;
});
afterAll(() => room.remove());

describe('refresh', () => {
  test('adapts what has new rows, and does nothing the second time', async () => {
    expect(undisturbed).toMatchObject({ changedAdgroupCount: 3, newAdgroupCount: 2 });
    expect(undisturbed.append?.logRowCount).toBe(40);
    const again = JSON.parse(await room.done(WORDS)) as Printed;
    expect(again).toMatchObject({
      ...{ digest: undisturbed.digest, append: null, knownFileCount: 1, changedAdgroupCount: 0 },
    });
    const shown = await room.done(['bundle', 'show', 'small/bundles']);
    expect(shown).toMatch(new RegExp(`^bundle +${undisturbed.digest}`));
    expect(shown).toMatch(/and 3 dead blocks of earlier exports/);
  });

  // The C library has read its tunables when a process begins, so this one may not compute.
  test('in a process of its own makes the same bundle', async () => {
    await room.copy('first/store', 'store');
    await room.copy('first/small', 'small');
    const tunables = { GLIBC_TUNABLES: 'glibc.cpu.x86_rep_stosb_threshold=2048' };
    const elsewhere = JSON.parse(
      await room.done(WORDS, { ...process.env, ...tunables }),
    ) as Printed;
    expect(elsewhere.digest).toBe(undisturbed.digest);
  });

  /** Does the work while a refresh has written its bundle and waits for the lock of the label. */
  async function betweenBundleAndLabel(
    work: (refresh: RunningCommand) => Promise<void>,
  ): Promise<RunningCommand> {
    await room.copy('first/store', 'store');
    await room.copy('first/small', 'small');
    const bundles = room.path('small/bundles');
    const holder = await makeHolder(join(bundles, '.incoming'));
    const lock = join(bundles, '.locks', 'labels+latest.json');
    const refresh = await withFileLock(lock, holder, systemClock, async () => {
      const giveUp = new AbortController();
      const written = watch(join(bundles, 'manifests'), { signal: giveUp.signal });
      const started = room.start(WORDS);
      for await (const { filename } of written)
        if (filename === `${undisturbed.digest}.json`) break;
      giveUp.abort();
      await work(started);
      return started;
    });
    await rm(holder, { recursive: true });
    return refresh;
  }

  test('leaves a label where it is that somebody moved while the bundle was made', async () => {
    const label = room.path('small/bundles/labels/latest.json');
    const moved = JSON.stringify({ formatVersion: 1, bundle: 'f'.repeat(64), earlier: [] });
    await room.write('moved.json', moved);
    // Renamed into place, so that nobody reads half of it.
    const refresh = await betweenBundleAndLabel(() => rename(room.path('moved.json'), label));
    const { exitCode, diagnostics } = await refresh.ended;
    expect(diagnostics).toMatch(/the label was moved meanwhile, and stays where it is/);
    expect(exitCode).toBe(1);
    expect(await readFile(label, 'utf8')).toBe(moved);
  });

  test('killed between the bundle and the label, moves the label to that bundle', async () => {
    await betweenBundleAndLabel(async (killed) => {
      killed.signal('SIGKILL');
      expect((await killed.ended).signal).toBe('SIGKILL');
    });
    const shown = await room.done(['bundle', 'show', 'small/bundles', '--format', 'json']);
    expect((JSON.parse(shown) as Printed).digest).toBe(undisturbed.base);
    const goneOn = JSON.parse(await room.done(WORDS)) as Printed;
    expect(goneOn).toMatchObject({ digest: undisturbed.digest, append: null });
    const after = await room.done(['bundle', 'show', 'small/bundles', '--format', 'json']);
    expect((JSON.parse(after) as Printed).digest).toBe(undisturbed.digest);
  });

  test('without a bundle, or of another store, says so and leaves the store as it is', async () => {
    await room.copy('first/store', 'store');
    await room.copy('first/small', 'small');
    await rm(room.path('small/bundles'), { recursive: true });
    await room.refused(WORDS, {
      ...{ exitCode: 2, what: /there is no bundle that could be changed/ },
      cure: /export the run in full first/,
    });
    await room.copy('first/small', 'small');
    await room.config('other', (config) => {
      config.data['rowSplit'] = { by: 'time', supportShare: 0.4 };
      Object.assign(config, { data: { ...config.data, store: 'other-store' }, output: 'small' });
    });
    await room.done(['prepare', 'other.yaml']);
    await room.refused(['refresh', 'other.yaml', ...WORDS.slice(2)], {
      ...{ exitCode: 2, what: /the bundle was made of another task store/ },
      cure: /export the run in full/,
    });
  });

  test.each<[string, RegExp]>([
    ['having appended them', /appended 40 rows/],
    ['adapting', /adapting adgroups/],
  ])('killed when %s, goes on to the same bundle', async (_, stage) => {
    await room.copy('first/store', 'store');
    await room.copy('first/small', 'small');
    const killed = room.start(WORDS);
    await killed.saw(stage);
    killed.signal('SIGKILL');
    expect((await killed.ended).signal).toBe('SIGKILL');
    const shown = await room.done(['bundle', 'show', 'small/bundles', '--format', 'json']);
    expect((JSON.parse(shown) as Printed).digest).toBe(undisturbed.base);
    const goneOn = JSON.parse(await room.done(WORDS)) as Printed;
    expect(goneOn.digest).toBe(undisturbed.digest);
  });
});
