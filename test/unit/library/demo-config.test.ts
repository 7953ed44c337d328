/** The demo and its example share their locations, so that other verbs continue from the demo. */

import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  demoConfig,
  DEMO_EXAMPLE,
  DEMO_OUT_DEFAULT,
} from '../../../infra/library/demo/demo-config.js';
import { configHash } from '../../../shared/config/run-config.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';

test('the demo leaves its store and its output where the example expects them', async () => {
  const [demo, example] = [await demoConfig(DEMO_OUT_DEFAULT), await loadRunConfig(DEMO_EXAMPLE)];
  expect(demo.data.store).toBe(example.data.store);
  expect(demo.output).toBe(example.output);
  expect(configHash(demo)).toBe(configHash(example));
});

test('the demo finds its logs from any folder, and keeps all output below --out', async () => {
  const { data, output } = await demoConfig('elsewhere/');
  expect([data.logs].flat().every((log) => log.startsWith('/') && existsSync(log))).toBe(true);
  expect(data.store).toBe('elsewhere/store');
  expect(output).toBe('elsewhere/');
});
