/** Outer steps that overlap, held against the recurrence that defines them. */

import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { at } from '../../../shared/base/arrays.js';
import { RunConfigSchema } from '../../../shared/config/run-config.js';
import { learnedVariables, modelSpecOf } from '../../../shared/models/model-spec.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { logisticExecutor } from '../../fixtures/queue/logistic-executor.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig, tinyRun } from '../../fixtures/training/training-run.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const RATE = 0.125;
const AHEAD = 2;
const DRAIN_EVERY = 6;
const training = {
  outerSteps: 12,
  tasksPerOuterStep: 4,
  leavesPerOuterStepMin: 1,
  checkpointEveryOuterSteps: DRAIN_EVERY,
  gradientNormMax: 1e9,
  optimizer: { kind: 'sgd', rate: RATE },
  staleness: { outerSteps: AHEAD, drainEveryOuterSteps: DRAIN_EVERY },
};
const config = logisticConfig(training);

/** The gradient of the bias is the bias plus one, and that of everything else is zero. */
function growingBias(seenBias: number[]): JobExecutor {
  const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
  const variables = learnedVariables(modelSpecOf(config.model, store.manifest.features));
  const biasPlace = variables
    .slice(
      0,
      variables.findIndex(({ name }) => name === 'bias'),
    )
    .reduce((sum, { shape }) => sum + elementCountOf(shape), 0);
  const executor = logisticExecutor(store);
  return {
    ...executor,
    async execute(input) {
      const bias = at(decodeTensors(input.dense, 'dense').get('bias')?.values ?? [], 0);
      seenBias.push(bias);
      const computed = await executor.execute(input);
      const sums = decodeTensors(computed.output, 'gradient');
      for (const { values } of sums.values()) values.fill(0);
      sums.get('0.dense')?.values.fill(bias + 1, biasPlace, biasPlace + 1);
      return { ...computed, output: encodeTensors(sums) };
    },
  };
}

function inMemory(executor: JobExecutor): Dispatcher {
  return createInMemoryDispatcher({
    ...{ executors: [executor], clock: instantClock(), attemptsMax: 1, sink: () => undefined },
  });
}

describe('training with staleness', () => {
  it('computes each outer step on the parameters of so many outer steps before', async () => {
    const seen: number[] = [];
    const { state } = await train(
      tinyRun(config, { dispatcher: inMemory(growingBias(seen)) }).options,
    );
    const bias = [0];
    for (let outerStep = 0; outerStep < 12; outerStep += 1) {
      const lastDrain = Math.floor(outerStep / DRAIN_EVERY) * DRAIN_EVERY;
      const given = at(bias, Math.max(lastDrain, outerStep - AHEAD));
      expect(at(seen, outerStep)).toBeCloseTo(given, 6);
      bias.push(at(bias, outerStep) - RATE * (given + 1));
    }
    expect(state.metaParameters.dense.get('bias')?.values[0]).toBeCloseTo(at(bias, 12), 6);
  });

  it('continues from the last outer step that overlaps none, with the same digest', async () => {
    const straight = await train(tinyRun(config).options);
    const stopped = tinyRun(config);
    const { dispatcher } = stopped.options;
    const aborting: Dispatcher = {
      ...dispatcher,
      run(orders, read, signal, terms) {
        if (at(orders, 0).job.outerStep === 10) stopped.abort.abort();
        return dispatcher.run(orders, read, signal, terms);
      },
    };
    await expectFailureOf(train({ ...stopped.options, dispatcher: aborting }), 'interrupted', {
      what: 'training was stopped; outer step 6 of 12 is safe',
    });
    expect([...stopped.checkpoints.states.keys()]).toEqual([6]);
    const { checkpoints } = stopped;
    const resumed = await train(tinyRun(config, { checkpoints, resume: true }).options);
    expect(resumed.digest).toBe(straight.digest);
  });

  it('refuses to stop where outer steps overlap', async () => {
    const { options } = tinyRun(config, { stopAtOuterStep: 5 });
    await expectFailureOf(train(options), 'usage', {
      expected: 'a stop at a multiple of 6',
      found: 'a stop at outer step 5',
    });
  });
});

it.each([
  [{ outerSteps: 10 }, 'outerSteps', '10 is none of 6'],
  [{ checkpointEveryOuterSteps: 4 }, 'checkpointEveryOuterSteps', '4 is none of 6'],
])('the section staleness contradicts %j', (part, path, message) => {
  const { success, error } = RunConfigSchema.safeParse({
    ...config,
    training: { ...training, ...part },
  });
  expect(success).toBe(false);
  expect(error?.issues[0]?.path).toEqual(['training', path]);
  expect(error?.issues[0]?.message).toContain(message);
});
