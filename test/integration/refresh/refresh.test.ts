/**
 * `qianmo refresh` as a user calls it, with and without further outer steps: killed at any stage it leaves a whole store
 * and a whole bundle, goes on to the same bundle, and does nothing the second time.
 */

import { readFile, rename, rm, watch } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { commandRoom, exportSmallRun } from '../../fixtures/commands/command-room.js';
import { systemClock } from '../../../shared/base/clock.js';
import { makeHolder, withFileLock } from '../../../shared/storage/file-lock.js';
import { laterLog } from '../../fixtures/commands/small-run.js';
import { openedOnce } from '../../fixtures/opened.js';

interface Printed {
  readonly digest: string;
  readonly base: string;
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  readonly append: { readonly logRowCount: number } | null;
  readonly knownFileCount: number;
  readonly trained: { readonly fromOuterStep: number; readonly toOuterStep: number } | null;
}

const WORDS = ['refresh', 'small.yaml', '--logs', 'later.csv', '--format', 'json'];
const TRAINING = [...WORDS, '--outer-steps', '4'];

const room = openedOnce(commandRoom);
let undisturbed: Printed;
beforeAll(async () => {
  await room.write('later.csv', laterLog());
  await exportSmallRun(room, ({ data, training }) => {
    data['rowSplit'] = { by: 'time' };
    Object.assign(training, { checkpointEveryOuterSteps: 1 });
  });
  await room.copy('store', 'first/store');
  await room.copy('small', 'first/small');
  undisturbed = await refreshed();
});

async function asAtFirst(): Promise<void> {
  await room.copy('first/store', 'store');
  await room.copy('first/small', 'small');
}

async function refreshed(words = WORDS): Promise<Printed> {
  return JSON.parse(await room.done(words)) as Printed;
}

async function servedDigest(): Promise<string> {
  const shown = await room.done(['bundle', 'show', 'small/bundles', '--format', 'json']);
  return (JSON.parse(shown) as Printed).digest;
}

async function killedAt(stage: RegExp, words = WORDS): Promise<void> {
  await asAtFirst();
  const killed = room.start(words);
  await killed.saw(stage);
  killed.signal('SIGKILL');
  expect((await killed.ended).signal).toBe('SIGKILL');
  expect(await servedDigest()).toBe(undisturbed.base);
}

describe('refresh', () => {
  test('adapts what has new rows, and does nothing the second time', async () => {
    expect(undisturbed).toMatchObject({ changedAdgroupCount: 3, newAdgroupCount: 2 });
    expect(undisturbed.append?.logRowCount).toBe(40);
    expect(await refreshed()).toMatchObject({
      ...{ digest: undisturbed.digest, append: null, knownFileCount: 1, changedAdgroupCount: 0 },
    });
    const shown = await room.done(['bundle', 'show', 'small/bundles']);
    expect(shown).toMatch(new RegExp(`^bundle +${undisturbed.digest}`));
    expect(shown).toMatch(/and 3 dead blocks of earlier exports/);
  });

  // The C library has read its tunables when a process begins, so this one may not compute.
  test('in a process of its own makes the same bundle', async () => {
    await asAtFirst();
    const tunables = { GLIBC_TUNABLES: 'glibc.cpu.x86_rep_stosb_threshold=2048' };
    const elsewhere = JSON.parse(await room.done(WORDS, tunables)) as Printed;
    expect(elsewhere.digest).toBe(undisturbed.digest);
  });

  /** Does the work while a refresh has written its bundle and waits for the lock of the label. */
  async function betweenBundleAndLabel(
    work: (refresh: RunningCommand) => Promise<void>,
  ): Promise<RunningCommand> {
    await asAtFirst();
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
    expect(await servedDigest()).toBe(undisturbed.base);
    expect(await refreshed()).toMatchObject({ digest: undisturbed.digest, append: null });
    expect(await servedDigest()).toBe(undisturbed.digest);
  });

  test('without a bundle, or of another store, says so and leaves the store as it is', async () => {
    await asAtFirst();
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
    await killedAt(stage);
    expect((await refreshed()).digest).toBe(undisturbed.digest);
  });
});

describe('refresh with further outer steps', () => {
  test('trains so many, exports all adgroups, does nothing the second time, and goes on after a kill', async () => {
    await asAtFirst();
    const trained = await refreshed(TRAINING);
    expect(trained).toMatchObject({
      ...{ trained: { fromOuterStep: 2, toOuterStep: 6 }, adgroupCount: 26 },
    });
    expect(await refreshed(TRAINING)).toMatchObject({ digest: trained.digest, trained: null });
    expect(await servedDigest()).toBe(trained.digest);
    await killedAt(/outer step 4\b/, TRAINING);
    expect((await refreshed(TRAINING)).digest).toBe(trained.digest);
  });

  test('is refused before logs are appended where the run cannot be trained further', async () => {
    await asAtFirst();
    const stale = await room.config('stale', (config) => {
      config.data['rowSplit'] = { by: 'time' };
      Object.assign(config, { run: 'small', output: 'small' });
      Object.assign(config.training, { staleness: { outerSteps: 1, drainEveryOuterSteps: 2 } });
    });
    await room.refused(['refresh', stale, ...TRAINING.slice(2)], {
      exitCode: 2,
      what: /^a run with staleness is not trained further by a refresh$/,
      where: /^small$/,
      found: /training\.staleness/,
      cure: /leave out --outer-steps/,
    });
  });
});
