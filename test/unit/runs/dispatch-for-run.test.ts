// One rule says whether a run computes on this machine or over a queue, for all verbs and functions.

import { describe, expect, it } from 'vitest';
import { isOverQueue, type DispatchChoice } from '../../../coordinator/runs/dispatch-for-run.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

const local = logisticConfig({});
const shared = { ...local, queue: { ...local.queue, redisUrl: 'redis://10.0.0.5:6379' } };
const redis = 'redis://10.0.0.6:6379';

describe('a run computes', () => {
  it.each<[string, Pick<RunConfig, 'queue'>, DispatchChoice, boolean]>([
    ['on this machine if nothing is said', local, {}, false],
    ['on this machine in a number of processes', local, { processes: 2 }, false],
    ['over the queue of its config', shared, {}, true],
    ['over the queue of an option or the environment', local, { redis }, true],
    ['over a queue of its own if workers are to be started', local, { workers: 2 }, true],
    ['by its own workers on a queue', local, { redis, workers: 2 }, true],
    [
      'on this machine if processes are named beside a queue',
      shared,
      { processes: 1, redis },
      false,
    ],
  ])('%s', (_, config, choice, expected) => {
    expect(isOverQueue(config, choice)).toBe(expected);
  });

  it('neither way if both are asked for', () => {
    expect(() => isOverQueue(local, { processes: 2, workers: 2 })).toThrow(
      /processes and workers cannot be given together/,
    );
  });
});
