// `qianmo demo-serve`: a run is trained and exported without some films, a server answers, and what it showed trains the next
// models, to which it swaps. The demo starts from nothing again, also where it was killed.

import { expect, test } from 'vitest';
import { commandRoom, expectFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const WORDS = ['demo-serve', '--out', 'loop', '--requests', '450'];

const room = openedOnce(() => commandRoom('own process'));

test('what was served trains the next models, and fewer clicks are lost', async () => {
  const printed = await room.done(WORDS);
  expect(printed.split('\n').length).toBeLessThanOrEqual(60);
  const refreshed = [...printed.matchAll(/refresh: (\d+) served rows/g)].map(([, rows]) => rows);
  expect(refreshed).toEqual(['450', '450']);
  const regrets = [...printed.matchAll(/regret ([\d.]+)/g)].map(([, regret]) => Number(regret));
  expect(regrets.at(-1)).toBeLessThan(regrets[0]!);
  const [, bundle, nextBundle] = /bundle +([0-9a-f]{12}) +([0-9a-f]{12})/.exec(printed) ?? [];
  expect(nextBundle).not.toBe(bundle);
  const [, before, after] = /served rows it rests on +(\d+) +(\d+)/.exec(printed) ?? [];
  expect(before).toBe('0');
  expect(Number(after)).toBeGreaterThan(0);
  expect(printed).toMatch(/rank in that request +4\.5 of 8 +[\d.]+ of 8/);
});

test('it starts again after its end and after a kill, alone, and removes no files of others', async () => {
  for (const _start of ['after the end', 'after the kill']) {
    const again = room.start(WORDS);
    await again.printed(/^1\. Train/m);
    expectFailure(await room.ended(WORDS), {
      exitCode: 2,
      what: /another demo runs in this folder/,
      found: /process \d+ on/,
      cure: /wait .* --out/,
    });
    again.signal('SIGKILL');
    expect((await again.ended).signal).toBe('SIGKILL');
  }
  await room.refused(['demo-serve', '--out', '.'], {
    exitCode: 2,
    what: /the folder of the demo has other files/,
    found: /log\.csv/,
    cure: /name another folder with --out/,
  });
});
