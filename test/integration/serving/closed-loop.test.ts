// `qianmo demo-serve`: a run is trained and exported, a server answers and takes feedback, new logs refresh what it
// serves, and it swaps.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom('own process');
});
afterAll(() => room.remove());

/** The two columns behind a name of the last table. */
function row(printed: string, name: string): [string, string] {
  const [, before = '', after = ''] =
    new RegExp(`^ +${name} +(\\S+) +(\\S+)$`, 'm').exec(printed) ?? [];
  return [before, after];
}

test('the loop ends with another bundle, which rests on more ratings', async () => {
  const printed = await room.done(['demo-serve', '--out', 'loop']);
  const [, shown, counted] =
    /requests, ([\d,]+) films shown.*; ([\d,]+) events/.exec(printed) ?? [];
  // Each film that is shown is an impression, and some are liked.
  expect(Number(counted)).toBeGreaterThan(Number(shown));
  const [before, after] = row(printed, 'bundle');
  expect(before).toMatch(/^[0-9a-f]{12}$/);
  expect(after).toMatch(/^[0-9a-f]{12}$/);
  expect(after).not.toBe(before);
  const [ratingsBefore, ratingsAfter] = row(printed, 'ratings it rests on').map(Number);
  expect(ratingsAfter).toBeGreaterThan(ratingsBefore!);
  await room.refused(['demo-serve', '--out', 'loop'], {
    exitCode: 2,
    what: /the demo was here before/,
    where: /loop\/store/,
    cure: /name another one with --out/,
  });
});
