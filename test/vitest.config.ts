// The runner of the tests: in forked processes, three at a time. On two cores, one of them usually waits for a
// process, a lease or a server. Tests that change their own process have one each; the others share three, which
// saves two seconds of a core per file.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import module from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { defineConfig, type Plugin } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const OWN_PROCESS = [
  'test/integration/engine/**/*.test.ts',
  'test/integration/{library,plugins,same-digest,simulated-mutants,unlike-machines}.test.ts',
  'test/integration/queue/redis-tls.test.ts',
  'test/integration/serving/closed-loop.test.ts',
  // They fill registries of the process, make its modules anew, or choose another backend for it.
  'test/unit/library/**/*.test.ts',
  'test/unit/plugins/**/*.test.ts',
  'test/reference/{model-gradients,portable-backends}.test.ts',
  'test/reference/engine/lean-gradients.test.ts',
  'test/reference/methods/posterior-worked-numbers.test.ts',
];

/** Long files first, so that no process is idle at the end. Files that share a process follow each other. */
class LongFilesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const placeOf = ({ project, moduleId }: TestSpecification): number => {
      if (project.config.isolate) return 0;
      return moduleId.includes('/test/integration/') ? 1 : 2;
    };
    return (await super.sort(files)).sort((one, other) => placeOf(one) - placeOf(other));
  }
}

// A test file runs for seconds, much of it on code that was just loaded, so the optimizing compiler begins late.
const NODE_OPTIONS = 'enableCompileCache' in module ? [] : ['--interrupt-budget=600000'];

// What test files build for each other (`fixtures/built-once.ts`).
const shared = mkdtempSync(join(tmpdir(), 'qianmo-test-shared-'));
process.once('exit', () => rmSync(shared, { recursive: true, force: true }));

/** As in a compute process (`numerical-environment.ts`): threads of TensorFlow would only take the cores of other tests. */
const NUMERICAL = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_NUM_INTRAOP_THREADS: '1',
  TF_NUM_INTEROP_THREADS: '-1',
  OMP_NUM_THREADS: '1',
  TF_DETERMINISTIC_OPS: '1',
  CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  TF_CPP_MIN_LOG_LEVEL: '2',
};

const root = new URL('..', import.meta.url).pathname;

/**
 * Tests import the compiled code in place of its source, which saves its transformation, and the look-up of each import
 * whenever it is used. `npm test` has compiled it.
 */
const compiledSources: Plugin = {
  name: 'compiled-sources',
  enforce: 'pre',
  resolveId: (imported, importer) => {
    if (importer === undefined || !imported.startsWith('.')) return null;
    const from = relative(root, importer);
    if (!from.startsWith('test/') || from.startsWith('test/unit/plugins/')) return null;
    const source = join(dirname(from), imported);
    const compiled = join(root, 'dist', source);
    return /^(shared|coordinator|worker|infra)\/.*\.js$/.test(source) && existsSync(compiled)
      ? compiled
      : null;
  },
};

export default defineConfig({
  plugins: process.env['QIANMO_TEST_COMPILED'] === undefined ? [] : [compiledSources],
  root,
  test: {
    setupFiles: ['test/fixed-seed.ts'],
    pool: 'forks',
    execArgv: NODE_OPTIONS,
    // Compiled code is loaded as it is.
    server: { deps: { external: [/\/dist\//] } },
    maxWorkers: 3,
    sequence: { sequencer: LongFilesFirst },
    // Only a hanging test should reach these limits: no test asserts a duration, even on a busy
    // machine.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    env: { ...NUMERICAL, QIANMO_TEST_SHARED: shared },
    projects: [
      {
        extends: true,
        test: { name: 'own process', include: OWN_PROCESS },
      },
      {
        extends: true,
        test: {
          name: 'shared process',
          include: ['test/**/*.test.ts'],
          exclude: [...OWN_PROCESS, 'test/bench/**'],
          isolate: false,
        },
      },
    ],
  },
});
