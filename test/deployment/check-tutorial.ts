/**
 * The tutorial as a new user carries it out: every command of the page, in order, in an empty home. Compares what is
 * printed with what the page shows, and prints how long each block took.
 */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { z } from 'zod';
import { packageRoot } from '../../infra/library/package-root.js';
import { systemClock } from '../../shared/base/clock.js';
import {
  shownAnswer,
  tutorialBlocks,
  tutorialScript,
} from '../fixtures/documentation/tutorial-script.js';
import { markdownTable } from '../bench/bench-header.js';
import { benchOptions } from '../bench/bench-options.js';
import { scratchFolder } from '../bench/scratch-folder.js';

const FINISHED = '@@ block finished';
/** Another processor may round other digits; a probability of the page may be this far away. */
const PROBABILITY_TOLERANCE = 0.02;

const AnswerSchema = z.looseObject({
  order: z.array(z.int()),
  probabilities: z.array(z.number()),
  blocks: z.array(z.int()),
  evidence: z.looseObject({ supportRows: z.array(z.int()), clicks: z.array(z.int()) }),
});

interface Block {
  readonly command: string;
  readonly seconds: number;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Runs the script and returns how long each block took. Everything that it prints is passed on. */
async function carriedOut(script: string, home: string): Promise<Block[]> {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const child = spawn('bash', ['-c', script], {
    cwd: new URL('.', packageRoot).pathname,
    env: { ...process.env, HOME: home, XDG_CACHE_HOME: cache },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  const blocks: Block[] = [];
  let since = systemClock.epochMs();
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith(FINISHED)) {
      console.log(line);
      continue;
    }
    const now = systemClock.epochMs();
    const command = mainCommandOf(tutorialBlocks[blocks.length] ?? '');
    blocks.push({ command, seconds: (now - since) / 1000 });
    since = now;
  }
  const [code] = z.tuple([z.int().nullable(), z.unknown()]).parse(await exit);
  if (code !== 0 || blocks.length !== tutorialBlocks.length)
    throw new Error(
      `block ${blocks.length + 1} of the tutorial ended with exit code ${String(code)}:\n` +
        (tutorialBlocks[blocks.length] ?? ''),
    );
  return blocks;
}

/** The line of a block that names it in the table. */
function mainCommandOf(block: string): string {
  const lines = block.trim().split('\n');
  const named = lines.find((line) => /^(npm|qianmo|curl) /.test(line)) ?? lines[0] ?? '';
  return named.replace(/\s+#.*$/, '').replace(/ (--header|<<).*$/, ' ...');
}

/** @throws Error if the server did not answer as the page says. */
function compareAnswer(home: string): void {
  const answer = AnswerSchema.parse(
    JSON.parse(readFileSync(join(home, 'my-ranking/answer.json'), 'utf8')),
  );
  const shown = AnswerSchema.parse(JSON.parse(shownAnswer));
  const isNear = shown.probabilities.every(
    (probability, n) =>
      Math.abs(probability - (answer.probabilities[n] ?? NaN)) <= PROBABILITY_TOLERANCE,
  );
  const same = (of: typeof answer): string =>
    JSON.stringify([of.order, of.blocks, of.evidence.supportRows, of.evidence.clicks]);
  if (!isNear || same(shown) !== same(answer))
    throw new Error(
      `the page shows another answer:\n${shownAnswer}\nthe server gave:\n${JSON.stringify(answer)}`,
    );
}

function tableOf(blocks: readonly Block[]): string {
  const total = blocks.reduce((sum, { seconds }) => sum + seconds, 0);
  const rows = blocks.map(({ command, seconds }) => [`\`${command}\``, seconds.toFixed(1)]);
  return markdownTable(['block', 'seconds'], [...rows, ['all', total.toFixed(1)]]).join('\n');
}

benchOptions(import.meta.url, {});
const home = scratchFolder('tutorial');
const script = tutorialScript({
  blocks: tutorialBlocks,
  port: await freePort(),
  finished: FINISHED,
});
const blocks = await carriedOut(script, home);
compareAnswer(home);
console.log(tableOf(blocks));
