// How the tests run: forked processes (native TensorFlow is one per process), two at a time.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/bench/**', 'node_modules/**', 'dist/**'],
    pool: 'forks',
    maxWorkers: 2,
    // Only what hangs is to reach them: no test asserts how long anything takes, on however busy a machine.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    env: { TF_ENABLE_ONEDNN_OPTS: '1', TF_CPP_MIN_LOG_LEVEL: '2' },
  },
});
