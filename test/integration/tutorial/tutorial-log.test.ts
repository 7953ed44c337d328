/** The tutorial up to the task store: its log and its config give what the page shows. */

import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { projectRoot } from '../../../infra/bootstrap/base.mjs';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { shownTexts, tutorialBlocks } from '../../fixtures/documentation/tutorial-script.js';
import { openedForEach } from '../../fixtures/opened.js';

const room = openedForEach(commandRoom);

function shell(script: string): string {
  return execFileSync('bash', ['-euc', script], {
    cwd: room.folder,
    encoding: 'utf8',
    env: { ...process.env, HOME: room.folder, QIANMO_HOME: projectRoot },
  });
}

/** The block of the page that contains a text. `cd ~/my-ranking` is the folder of the room. */
function blockWith(text: string): string {
  const found = tutorialBlocks.filter((block) => block.includes(text));
  expect(found).toHaveLength(1);
  return (found[0] ?? '').replaceAll('~/my-ranking', '.');
}

function isShown(printed: string): void {
  const lines = printed.trim().split('\n');
  const shown = shownTexts.map((text) => text.trim().split('\n'));
  const begins = (line: string, start: string): boolean =>
    start.endsWith(', ...') ? line.startsWith(start.slice(0, -3)) : line === start;
  const same = shown.filter(
    (text) => text.length === lines.length && text.every((line, n) => begins(lines[n] ?? '', line)),
  );
  expect(same, `the page does not show:\n${printed}`).toHaveLength(1);
}

test('its log, its task store and its rejected rows are those that the page shows', async () => {
  isShown(shell(blockWith('messy-log.mjs')));
  shell(blockWith('cat > run.yaml'));
  isShown(await room.done(['prepare', 'run.yaml']));
  isShown(shell(blockWith('rejects.jsonl')));
});
