/** `qianmo serve` as a user calls it: it follows a label, holds no TensorFlow, and stops when told to. */

import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { commandRoom, exportSmallRun } from '../../fixtures/commands/command-room.js';
import { serveCommand, type ServedCommand } from '../../fixtures/serving/served-command.js';
import { openRequest, posted } from '../../fixtures/serving/served-export.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);
beforeAll(async () => {
  await exportSmallRun(room, undefined, '--out', 'bundles');
});

const served = (...options: string[]): Promise<ServedCommand> =>
  serveCommand(room.folder, 'bundles', options);

async function reportOf(url: string): Promise<Readonly<Record<string, unknown>>> {
  return (await (await fetch(`${url}/v1/bundle`)).json()) as Readonly<Record<string, unknown>>;
}

describe('serve', () => {
  test('ranks, without TensorFlow, and stops at SIGTERM after what is under way', async () => {
    const { command, url, bundle } = await served();
    const { features } = (await reportOf(url)) as {
      readonly features: readonly { readonly column: string; readonly kind: string }[];
    };
    const row = Object.fromEntries(
      features.map(({ column, kind }) => [
        column,
        kind === 'bag' ? [] : kind === 'number' ? 1 : 'x',
      ]),
    );
    const body = { context: row, candidates: [{ adgroup: 'nobody' }, { adgroup: 'nobody else' }] };
    const { status, body: answer } = await posted(`${url}/v1/rank`, body);
    expect(answer).toMatchObject({ bundle, blocks: [0, 0] });
    expect(status).toBe(200);
    expect(readFileSync(`/proc/${command.pid}/maps`, 'utf8')).not.toMatch(/tensorflow/i);

    const text = JSON.stringify(body);
    const underWay = await openRequest(`${url}/v1/rank`, {
      'content-length': String(text.length),
    });
    underWay.write(text.slice(0, 5));
    command.signal('SIGTERM');
    await command.saw(/stopping after/);
    underWay.write(text.slice(5));
    expect(await underWay.status).toBe(200);
    expect((await command.ended).exitCode).toBe(0);
  });

  test('follows its label', async () => {
    const { command, url, bundle, stop } = await served('--poll-seconds', '0.05');
    const words = ['export', 'small.yaml', '--out', 'bundles', '--encoding', 'float16'];
    const { digest } = JSON.parse(await room.done([...words, '--format', 'json'])) as {
      readonly digest: string;
    };
    expect(digest).not.toBe(bundle);
    await command.saw(new RegExp(`serving bundle ${digest.slice(0, 12)} in place of`));
    expect(await reportOf(url)).toMatchObject({ bundle: digest, swaps: 1, encoding: 'float16' });
    await stop();
  });

  test('demands a token beyond this machine, and takes none as an argument', async () => {
    const words = ['serve', '--bundle', 'bundles', '--host', '0.0.0.0', '--port', '0'];
    await room.refused(words, { exitCode: 2, what: /open to everybody/, cure: /--token-file/ });
    await room.write('token.txt', 'short\n');
    const short = [...words, '--token-file', 'token.txt'];
    await room.refused(short, { exitCode: 2, what: /token/, expected: /16/, cure: /openssl/ });
  });

  test('refuses an address of Redis without exploration', async () => {
    const words = ['serve', '--bundle', 'bundles', '--port', '0', '--processes', '2'];
    await room.refused([...words, '--redis', 'redis://127.0.0.1:1'], {
      ...{
        exitCode: 2,
        what: /^Redis would hold the evidence/,
        expected: /--explore/,
        cure: /--redis/,
      },
    });
  });

  test('refuses a canary of another place', async () => {
    const words = ['serve', '--bundle', 'bundles', '--port', '0'];
    await room.refused([...words, '--canary', 'elsewhere@canary'], {
      ...{ exitCode: 2, what: /canary/, expected: /bundles@canary/, cure: /qianmo bundle label/ },
    });
  });
});
