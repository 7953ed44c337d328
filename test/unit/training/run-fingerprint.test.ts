/** The kind of machine that a run is computed on, from its first result over checkpoints to a resume. */

import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { logisticConfig, tinyRun } from '../../fixtures/training/training-run.js';

/** The fingerprint of the executor of these runs. */
const FIRST = 'test-01234567';
const OTHER = 'test-89abcdef';

/** Notes which fingerprint the jobs of each outer step demand, and reports another one if told to. */
function watched(
  dispatcher: Dispatcher,
  demanded: (string | undefined)[],
  fingerprint = FIRST,
): Dispatcher {
  return {
    ...dispatcher,
    async *run(orders, read, signal) {
      demanded.push(...new Set(orders.map(({ job }) => job.fingerprint)));
      // The executor computes for any demand, as a machine of the demanded kind does.
      const undemanding = orders.map(({ job, dense, rowPack, frozen }) => {
        const { fingerprint: _, ...rest } = job;
        return { job: rest, dense, rowPack, frozen };
      });
      for await (const { result, value } of dispatcher.run(undemanding, read, signal))
        yield { value, result: { ...result, fingerprint } };
    },
  };
}

describe('the fingerprint of a run', () => {
  const config = logisticConfig({ outerSteps: 4, tasksPerOuterStep: 6, leavesPerOuterStepMin: 3 });
  const demanding = (fingerprint: string): RunConfig => ({
    ...config,
    compute: { ...config.compute, fingerprint },
  });

  it('is that of the first result, which later jobs demand and checkpoints record', async () => {
    const demanded: (string | undefined)[] = [];
    const run = tinyRun(config);
    const dispatcher = watched(run.options.dispatcher, demanded);
    const { state } = await train({ ...run.options, dispatcher });
    expect(demanded).toEqual([undefined, FIRST, FIRST, FIRST]);
    expect(state.computedOn).toEqual([{ outerStep: 0, fingerprint: FIRST }]);
    expect(run.checkpoints.states.get(4)?.computedOn).toEqual(state.computedOn);
  });

  it('is the one that the config demands, from the first job on', async () => {
    const demanded: (string | undefined)[] = [];
    const run = tinyRun(demanding(FIRST));
    await train({ ...run.options, dispatcher: watched(run.options.dispatcher, demanded) });
    expect(new Set(demanded)).toEqual(new Set([FIRST]));
  });

  it('is that of the checkpoint after a resume', async () => {
    const first = tinyRun(config, { stopAtOuterStep: 2 });
    await train(first.options);
    const demanded: (string | undefined)[] = [];
    const resumed = tinyRun(config, { checkpoints: first.checkpoints, resume: true });
    const dispatcher = watched(resumed.options.dispatcher, demanded);
    await train({ ...resumed.options, dispatcher });
    expect(new Set(demanded)).toEqual(new Set([FIRST]));
  });

  it('changes only when the config of a resume demands it, which is reported and recorded', async () => {
    const first = tinyRun(config, { stopAtOuterStep: 2 });
    await train(first.options);
    const resumed = tinyRun(demanding(OTHER), { checkpoints: first.checkpoints, resume: true });
    const dispatcher = watched(resumed.options.dispatcher, [], OTHER);
    const { state } = await train({ ...resumed.options, dispatcher });
    expect(state.computedOn).toEqual([
      { outerStep: 0, fingerprint: FIRST },
      { outerStep: 2, fingerprint: OTHER },
    ]);
    expect(resumed.events).toContainEqual({
      kind: 'fingerprint-changed',
      ...{ outerStep: 2, fingerprint: OTHER, earlier: FIRST },
    });
  });
});
