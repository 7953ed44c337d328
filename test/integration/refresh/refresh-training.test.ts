/**
 * `qianmo refresh --outer-steps` as a user calls it: it trains the trunk further on the grown store and serves a full
 * bundle; killed at any stage it goes on to the same one.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';
import { laterLog } from '../../fixtures/commands/small-run.js';

interface Printed {
  readonly digest: string;
  readonly base: string;
  readonly trained: { readonly fromOuterStep: number; readonly toOuterStep: number } | null;
  readonly adgroupCount?: number;
}

const WORDS = [
  ...['refresh', 'small.yaml', '--logs', 'later.csv', '--outer-steps', '4'],
  ...['--format', 'json'],
];

let room: CommandRoom;
let undisturbed: Printed;
beforeAll(async () => {
  room = await commandRoom();
  await room.config('small', (config) => {
    config.data['rowSplit'] = { by: 'time' };
    config['evaluation'] = { innerRates: [0.3], innerSteps: [2], bootstrapSamples: 100 };
    Object.assign(config.training, { checkpointEveryOuterSteps: 1 });
  });
  await room.write('later.csv', laterLog());
  for (const verb of ['prepare', 'train', 'evaluate', 'export'])
    await room.done([verb, 'small.yaml']);
  await room.copy('store', 'first/store');
  await room.copy('small', 'first/small');
  undisturbed = JSON.parse(await room.done(WORDS)) as Printed;
});
afterAll(() => room.remove());

test('trains so many outer steps, exports all adgroups, and does nothing the second time', async () => {
  expect(undisturbed).toMatchObject({
    ...{ trained: { fromOuterStep: 2, toOuterStep: 6 }, adgroupCount: 26 },
  });
  const again = JSON.parse(await room.done(WORDS)) as Printed;
  expect(again).toMatchObject({ digest: undisturbed.digest, trained: null });
  const shown = await room.done(['bundle', 'show', 'small/bundles']);
  expect(shown).toMatch(new RegExp(`^bundle +${undisturbed.digest}`));
});

test('is refused before logs are appended where the run cannot be trained further', async () => {
  await room.copy('first/store', 'store');
  await room.copy('first/small', 'small');
  const stale = await room.config('stale', (config) => {
    config.data['rowSplit'] = { by: 'time' };
    Object.assign(config, { run: 'small', output: 'small' });
    Object.assign(config.training, { staleness: { outerSteps: 1, drainEveryOuterSteps: 2 } });
  });
  await room.refused(
    WORDS.map((word) => (word === 'small.yaml' ? stale : word)),
    {
      exitCode: 2,
      what: /^a run with staleness is not trained further by a refresh$/,
      where: /^small$/,
      found: /training\.staleness/,
      cure: /leave out --outer-steps/,
    },
  );
});

test.each<[string, RegExp]>([
  ['having appended them', /appended 40 rows/],
  ['training', /outer step 4\b/],
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
