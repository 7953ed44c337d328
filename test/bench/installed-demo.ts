/**
 * Packs this checkout, installs the tarball in an empty folder with HOME moved, and runs the demo
 * there from scratch, with every download. Prints sizes and durations, and the demo's digest and
 * table. To test another version of Node, put it first on PATH.
 *
 *   npm run bench:installed-demo
 */

import { installPackage } from '../fixtures/commands/installed-package.js';
import { benchOptions } from './options/bench-options.js';

benchOptions(import.meta.url, {});

const MEGABYTE = 1e6;
const startedMs = performance.now();
const secondsUntilNow = (): string => `${((performance.now() - startedMs) / 1000).toFixed(0)} s`;

const installed = await installPackage();
try {
  const { tarballByteCount, packedFiles } = installed;
  const megabytes = (tarballByteCount / MEGABYTE).toFixed(1);
  console.log(`node ${process.version}: tarball ${megabytes} MB, ${packedFiles.length} files`);
  console.log(`packed and installed after ${secondsUntilNow()}`);
  const { stdout } = await installed.qianmo('demo');
  console.log(`demo done after ${secondsUntilNow()}`);
  console.log(stdout);
} finally {
  await installed.remove();
}
