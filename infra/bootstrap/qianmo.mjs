#!/usr/bin/env node
// The qianmo executable: sets qianmo up on first use, and a checkout whenever it has changed, then
// runs the compiled command line.
import { existsSync } from 'node:fs';
import { isBuildCurrent } from './build.mjs';
import { beQuiet, failWith, isCheckout } from './base.mjs';
import { checkNodeVersion, isSetUp, setUp } from './setup.mjs';

// Verbs that compute nothing, and the setup verb, which decides itself what to install.
const VERBS_WITHOUT_SETUP = ['setup', 'version', 'help', undefined];
const words = process.argv.slice(2);
const isHelp = words.includes('--help') || words.includes('-h');
if (words.includes('-q') || words.includes('--quiet')) beQuiet();
const main = new URL('../../dist/infra/cli/main.js', import.meta.url);
try {
  checkNodeVersion();
  const isCompiled = existsSync(main) && (!isCheckout || isBuildCurrent());
  const isNeeded = !isCompiled || !(isHelp || VERBS_WITHOUT_SETUP.includes(words[0]));
  if (isNeeded && !isSetUp()) await setUp();
} catch (error) {
  failWith(error);
}
if (!existsSync(main)) failWith('dist/infra/cli/main.js is missing. Cure: npm run build');
await import(main.href);
