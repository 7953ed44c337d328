/**
 * `npm run check -- deployment`: the files of `infra/deploy` with the linters and schemas of others, and every
 * command line in them as a process.
 */

import { openChecks } from '../checks.js';
import { checkWithLinters, obtainLinters } from '../linters.js';
import { checkCommandLines, openPlace } from './command-lines.js';
import { checkSlurm } from './slurm-scripts.js';
import { scratchFolder } from '../../bench/scratch-folder.js';

const checks = openChecks();
await checkWithLinters(checks, await obtainLinters());
const place = await openPlace(scratchFolder('deployment'));
try {
  await checkCommandLines(checks, place);
  await checkSlurm(checks, place);
} finally {
  await place.redis.stop();
}
checks.leftOut(
  'a worker on a GPU',
  'this machine has none: only that it does not start is checked',
);
checks.leftOut(
  'clusters',
  'no Kubernetes, AWS Batch or Slurm is within reach; their own schemas and models are',
);
const failures = checks.finish({
  path: 'infra/results/deployment.md',
  title: 'Deployment',
  command: 'npm run check -- deployment',
});
process.exitCode = failures === 0 ? 0 : 1;
