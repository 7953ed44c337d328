/** Draws the jobs that are computed by a second worker although nobody doubts their result. */

import { randomStream } from '../../shared/base/random.js';
import type { Job } from '../../shared/queue/protocol.js';

/**
 * @param share of the gradient jobs, in [0, 1]. Which ones depends on seed, outer step and job index alone.
 */
export function drawnJobs(
  seed: number,
  share: number,
): (job: Pick<Job, 'work' | 'outerStep' | 'jobIndex'>) => boolean {
  return ({ work, outerStep, jobIndex }) =>
    work.kind === 'gradient' &&
    share > 0 &&
    randomStream(seed, 'recomputed jobs', outerStep, jobIndex).uniform() < share;
}
