/** A run whose outer steps closed on a quorum is repeated bit for bit by `train --replay`. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
  await room.done(['prepare', await room.config('any')]);
});
afterAll(() => room.remove());

function configOf(name: string): Promise<string> {
  // Half of the jobs are enough, so most steps leave out whichever comes last.
  return room.config(
    name,
    ({ training }) =>
      void Object.assign(training, {
        outerSteps: 20,
        closing: { kind: 'quorum', share: 0.5, graceMs: 0 },
      }),
  );
}

async function digestOf(...args: string[]): Promise<unknown> {
  const output = await room.done(['train', ...args, '--format', 'json']);
  return (JSON.parse(output) as { digest: unknown }).digest;
}

it('ends with the digest of the first run, without its workers', async () => {
  const first = await digestOf(await configOf('first'), '--workers', '2');
  const again = await configOf('again');
  expect(await digestOf(again, '--replay', 'first')).toBe(first);
  await room.refused(['train', await configOf('none'), '--replay', 'nowhere'], {
    exitCode: 2,
    what: /^this run cannot be repeated$/,
    where: /^--replay nowhere$/,
    found: /^no checkpoint$/,
    cure: /name the output of a run that differs in run, output, queue and closing only/,
  });
}, 120_000);
