/**
 * `qianmo export` and `qianmo bundle` as a user calls them: the same digest in process and on two
 * workers, also after a kill; labels; refusals that name the cure.
 */

import { readdir, readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { commandRoom, EXPORT_EVALUATION } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

interface PrintedExport {
  readonly digest: string;
  readonly adgroupCount: number;
  readonly keptAdgroupCount: number;
  readonly evaluatedDifferenceMax: number;
}

const room = openedOnce(commandRoom);
beforeAll(async () => {
  await room.config('small', (config) => {
    config['evaluation'] = EXPORT_EVALUATION;
  });
  await room.done(['prepare', 'small.yaml']);
  await room.done(['train', 'small.yaml']);
});

const exported = async (...options: string[]): Promise<PrintedExport> =>
  JSON.parse(
    await room.done(['export', 'small.yaml', '--format', 'json', ...options]),
  ) as PrintedExport;

describe('export', () => {
  test('before an evaluation is refused', async () => {
    await room.refused(['export', 'small.yaml'], {
      exitCode: 2,
      what: /the run was not evaluated/,
      expected: /an evaluation of this checkpoint/,
      cure: /qianmo evaluate run\.yaml/,
    });
  });

  test('gives one digest in process, on two workers, and after a kill', async () => {
    await room.done(['evaluate', 'small.yaml']);
    const inProcess = await exported('--out', 'one');
    expect(inProcess.adgroupCount).toBe(24);
    expect(inProcess.evaluatedDifferenceMax).toBeLessThan(1e-5);
    const onWorkers = await exported('--workers', '2', '--out', 'two');
    expect(onWorkers.digest).toBe(inProcess.digest);

    const killed = room.start(['export', 'small.yaml', '--out', 'three']);
    await killed.saw(/adapting adgroups/);
    killed.signal('SIGKILL');
    expect((await killed.ended).signal).toBe('SIGKILL');
    const goneOn = await exported('--out', 'three');
    expect(goneOn.digest).toBe(inProcess.digest);
    expect(goneOn.keptAdgroupCount).toBeGreaterThan(0);
    const files = await readdir(room.path('three/blobs'));
    expect(files.sort()).toEqual((await readdir(room.path('one/blobs'))).sort());
  });

  test('says of a wrong encoding which there are', async () => {
    const ended = await room.ended(['export', 'small.yaml', '--encoding', 'float8']);
    expect(ended.exitCode).toBe(2);
    expect(ended.diagnostics).toMatch(/float32, float16/);
  });
});

describe('bundle', () => {
  test('lists, shows, labels and rolls back', async () => {
    const exact = await exported('--out', 'labelled');
    const half = await exported('--out', 'labelled', '--encoding', 'float16');
    expect(half.digest).not.toBe(exact.digest);
    expect(await room.done(['bundle', 'list', 'labelled'])).toMatch(
      new RegExp(`${half.digest.slice(0, 12)} .* latest\\n`),
    );
    await room.done(['bundle', 'label', 'labelled', 'stable', exact.digest.slice(0, 8)]);
    await room.done(['bundle', 'label', 'labelled', 'stable', 'latest']);
    expect(await room.done(['bundle', 'show', 'labelled@stable'])).toMatch(half.digest);
    expect(await room.done(['bundle', 'rollback', 'labelled', 'stable'])).toMatch(
      `stable -> ${exact.digest}`,
    );
    expect(await room.done(['bundle', 'show', 'labelled@stable'])).toMatch(/float32 of 64 bytes/);
  });

  test('converts one for other servers', async () => {
    const convert = ['bundle', 'convert', 'labelled@stable'];
    expect(await room.done([...convert, 'onnx', 'models/onnx'])).toMatch(/format\s+onnx/);
    expect((await readdir(room.path('models/onnx'))).sort()).toEqual([
      ...['inputs.json', 'model.onnx', 'vocabulary'],
    ]);
    const adgroups = await readFile(room.path('models/onnx/vocabulary/adgroups.jsonl'), 'utf8');
    const [unknown, ...keys] = adgroups.trimEnd().split('\n');
    expect(unknown).toBe('null');
    expect(new Set(keys).size).toBe(24);
    await room.refused([...convert, 'onnx', 'models/onnx'], {
      ...{ exitCode: 2, what: /the folder of the model has files/, cure: /name another folder/ },
    });
    expect(await readdir(room.path('models'))).toHaveLength(1);
  });

  test('names a damaged file', async () => {
    const [file = ''] = await readdir(room.path('labelled/blobs'));
    await room.write(`labelled/blobs/${file}`, 'damaged');
    const checked = await Promise.all(
      ['stable', 'latest'].map((name) => room.ended(['bundle', 'show', `labelled@${name}`])),
    );
    const refused = checked.filter(({ exitCode }) => exitCode === 1);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]!.diagnostics).toMatch(`blobs/${file}`);
    expect(refused[0]!.diagnostics).toMatch(/missing, truncated or changed/);
  });

  test.each([
    [['bundle', 'list'], /missing required argument 'address'/],
    [['bundle', 'lst', 'labelled'], /unknown command 'lst'/],
    [['bundle', 'label', 'labelled', 'Stable', 'latest'], /not a name for a label/],
    [['bundle', 'label', 'labelled', 'stable', 'canary'], /there is no such bundle/],
    [['bundle', 'rollback', 'labelled', 'canary'], /there is no such label/],
    [['bundle', 'convert', 'labelled', 'pmml', 'm'], /<format> cannot have this value/],
  ])('refuses %j', async (words, what) => {
    await room.refused(words, { exitCode: 2, what, cure: /qianmo bundle|name it/ });
  });
});
