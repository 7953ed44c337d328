/** Exports that nothing uses. A name that only its own file needs is not exported. */

import { expect, test } from 'vitest';
import { exportedNames, importedNames, sources } from './sources.js';

const isTest = (path: string): boolean => path.startsWith('test/');
const declared = sources.filter(({ path }) => !isTest(path));
/** The entry points of the package: their exports are for its users. */
const ENTRY_POINTS = /^infra\/library\//;

/** Exports that only tests import today, each with its reason. */
const KEPT: Readonly<Record<string, string>> = {
  'infra/simulation/memory-queue.ts MemoryJobQueue': 'the queue without Redis, for simulations',
  'shared/storage/memory-object-store.ts MemoryObjectStore': 'the store without S3',
  'shared/bundle/key-index.ts blockOfKey': 'one key, where tests ask for its block',
  'shared/tensors/native-rows.ts unloadNativeRows': 'tests compare both ways to compute rows',
  'shared/features/expressions/bind-expression.ts FUNCTION_NAMES': 'the page lists every function',
  'infra/bootstrap/tensorflow.mjs isGpuTensorFlowInstalled': 'tests skip what needs the GPU build',
  'infra/bootstrap/s3-server.mjs startS3Server': 'S3 on this machine, for tests and benchmarks',
};

test('everything exported is imported by another file', () => {
  const imported = importedNames(sources);
  const unused = declared
    .filter(({ path }) => !ENTRY_POINTS.test(path))
    .flatMap(({ path, text }) =>
      exportedNames(text)
        .filter((name) => !imported.has(`${path} ${name}`) && !imported.has(`${path} *`))
        .map((name) => `${path} ${name}`),
    );
  expect(unused, 'do not export them').toEqual([]);
});

test('tests alone do not keep an export alive', () => {
  const imported = importedNames(sources.filter(({ path }) => !isTest(path)));
  const unused = declared
    .filter(({ path }) => !ENTRY_POINTS.test(path))
    .flatMap(({ path, text }) =>
      exportedNames(text)
        .filter((name) => !imported.has(`${path} ${name}`) && !imported.has(`${path} *`))
        .filter((name) => (text.match(new RegExp(`\\b${name}\\b`, 'g')) ?? []).length === 1)
        .map((name) => `${path} ${name}`),
    )
    .filter((name) => KEPT[name] === undefined);
  expect(unused, 'delete them, with their tests').toEqual([]);
});
