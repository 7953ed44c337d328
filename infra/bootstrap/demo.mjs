// `npm run demo`: sets the checkout up and runs the demo with the given arguments; `npm run demo:serve` runs
// the one that serves.
import { failWith } from './base/progress.mjs';
import { runExecutable } from './base/run-executable.mjs';
import { setUp } from './setup.mjs';

try {
  await setUp();
  const args = process.argv.slice(2);
  const verb = args[0] === '--serve' ? ['demo-serve', ...args.slice(1)] : ['demo', ...args];
  process.exitCode = await runExecutable(verb);
} catch (error) {
  failWith(error);
}
