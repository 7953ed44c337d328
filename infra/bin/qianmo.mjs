#!/usr/bin/env node
// The qianmo executable: sets the checkout up when it is stale, then runs the compiled command line.
import { existsSync } from 'node:fs';
import { failWith } from '../bootstrap/progress.mjs';
import { checkNodeVersion, isSetUp, setUp } from '../bootstrap/setup.mjs';

try {
  checkNodeVersion();
  if (!isSetUp()) await setUp();
} catch (error) {
  failWith(error);
}
const main = new URL('../../dist/infra/cli/main.js', import.meta.url);
if (!existsSync(main)) failWith('dist/infra/cli/main.js was not built. Cure: npm run build');
await import(main.href);
