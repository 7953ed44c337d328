// `npm run demo`: sets the checkout up and runs the demo with the given arguments.
import { failWith } from './base/progress.mjs';
import { runExecutable } from './base/run-executable.mjs';
import { setUp } from './setup.mjs';

try {
  await setUp();
  process.exitCode = await runExecutable(['demo', ...process.argv.slice(2)]);
} catch (error) {
  failWith(error);
}
