// How the tests run: in forked processes (native TensorFlow is one per process), three at a time. On two
// cores, one of them usually waits for a process, a lease or a server.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/bench/**', 'node_modules/**', 'dist/**'],
    setupFiles: ['test/fixed-seed.ts'],
    pool: 'forks',
    maxWorkers: 3,
    // Only a hanging test should reach these limits: no test asserts a duration, even on a busy
    // machine.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    env: { TF_ENABLE_ONEDNN_OPTS: '1', TF_CPP_MIN_LOG_LEVEL: '2' },
  },
});
