/** Runs whose tensors are rounded for their way. */

import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { gradientReader } from '../../../coordinator/training/gradients/job-gradient.js';
import { at } from '../../../shared/base/arrays.js';
import { configHash, type RunConfig } from '../../../shared/config/run-config.js';
import { encodeGradient } from '../../../shared/tensors/encode-gradient.js';
import { floatsOf, TENSOR_ENCODINGS } from '../../../shared/tensors/rounded-tensors.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { deliveredOf, layoutOf, shapesFor } from '../../fixtures/gradient-results.js';
import { logisticConfig, stateDigest, tinyRun } from '../../fixtures/training/training-run.js';

const OUTER_STEPS = 12;
const BOTH_INT8 = { parameters: 'int8', gradients: 'int8' };

function configOf(encodings?: object, training: object = {}): RunConfig {
  return logisticConfig({
    ...{ outerSteps: OUTER_STEPS, tasksPerOuterStep: 4, tasksPerJob: 2 },
    ...{ checkpointEveryOuterSteps: 1, checkpointsKept: 1000 },
    ...(encodings === undefined ? {} : { encodings }),
    ...training,
  });
}

async function digestOf(config: RunConfig): Promise<string> {
  return (await train(tinyRun(config).options)).digest;
}

/** Notes the bias that each outer step was sent. */
function noting(seen: number[], dispatcher: Dispatcher): Dispatcher {
  return {
    ...dispatcher,
    run(orders, read, signal, terms) {
      const { dense } = at(orders, 0);
      const bias = floatsOf(decodeTensors(dense, 'dense'))?.get('bias')?.values;
      seen.push(at(bias ?? [], 0));
      return dispatcher.run(orders, read, signal, terms);
    },
  };
}

describe('training with encodings', () => {
  it('adds what rounding took from a dense variable when it is sent next', async () => {
    // A single value is a whole block of integers, and loses nothing as one of them.
    const run = tinyRun(configOf({ parameters: 'float16' }));
    const seen: number[] = [];
    const dispatcher = noting(seen, run.options.dispatcher);
    await train({ ...run.options, dispatcher });
    let [given, sent] = [0, 0];
    for (let outerStep = 0; outerStep < OUTER_STEPS; outerStep += 1) {
      const before = run.checkpoints.states.get(outerStep);
      const after = run.checkpoints.states.get(outerStep + 1);
      given += before?.metaParameters.dense.get('bias')?.values[0] ?? 0;
      sent += at(seen, outerStep);
      expect(sent + (after?.remainders?.get('bias')?.values[0] ?? NaN)).toBeCloseTo(given, 7);
    }
    expect(given).not.toBe(0);
  });

  it.each(
    TENSOR_ENCODINGS.flatMap((parameters) =>
      TENSOR_ENCODINGS.map((gradients) => ({ parameters, gradients })),
    ),
  )(
    'gives one state whether stopped or not, with $parameters and $gradients',
    async (encodings) => {
      for (const training of [{}, { staleness: { outerSteps: 2, drainEveryOuterSteps: 6 } }]) {
        const every = 'staleness' in training ? 6 : 1;
        const config = configOf(encodings, { ...training, checkpointEveryOuterSteps: every });
        const whole = await train(tinyRun(config).options);
        const first = tinyRun(config, { stopAtOuterStep: 6 });
        await train(first.options);
        const { checkpoints } = first;
        const rest = await train(tinyRun(config, { checkpoints, resume: true }).options);
        expect(stateDigest(rest.state)).toEqual(stateDigest(whole.state));
        expect(rest.state.remainders).toEqual(whole.state.remainders);
      }
    },
  );

  it('has a digest for each encoding of either way, and that of before without any', async () => {
    const cases = TENSOR_ENCODINGS.flatMap((kind) => [{ parameters: kind }, { gradients: kind }]);
    const digests = await Promise.all(cases.map((encodings) => digestOf(configOf(encodings))));
    expect(new Set(digests).size).toBe(5);
    expect(await digestOf(configOf())).toBe(digests[0]);
    const hashes = cases.map((encodings) => configHash(configOf(encodings)));
    expect(new Set(hashes).size).toBe(5);
    expect(hashes).not.toContain(configHash(configOf()));
  });

  it('learns what float32 learns', async () => {
    const lossOf = async (encodings?: object): Promise<number> => {
      const run = tinyRun(configOf(encodings, { outerSteps: 200, optimizer: { kind: 'sgd' } }));
      await train(run.options);
      const losses = run.events.flatMap((event) =>
        event.kind === 'outer-step' ? [event.queryLoss] : [],
      );
      return losses.slice(-20).reduce((sum, loss) => sum + loss, 0) / 20;
    };
    expect(await lossOf(BOTH_INT8)).toBeCloseTo(await lossOf(), 2);
  });
});

describe('a rounded gradient', () => {
  const layouts = [layoutOf([1, 2], [3])];
  const tensors = new Map([
    ['w', { shape: [2], values: Float32Array.of(127, 1) }],
    ['rows', { shape: [3, 1], values: Float32Array.of(127, -2, 3) }],
  ]);
  const encoded = (kind: 'int8' | 'float16'): Uint8Array =>
    encodeGradient(tensors, { outerStep: 0, jobIndex: 0 }, { encoding: { kind, seed: 1 } });

  it('is read in the encoding that was ordered, and in no other', () => {
    const delivered = deliveredOf(0, tensors);
    for (const ordered of TENSOR_ENCODINGS)
      for (const sent of TENSOR_ENCODINGS) {
        const output = sent === 'float32' ? delivered.output : encoded(sent);
        const read = gradientReader({ ...shapesFor(layouts), encoding: ordered });
        const found = read({ ...delivered, output });
        if (sent !== ordered) expect(found).toBe('layout_mismatch');
        else expect(found).toMatchObject({ rows: Float32Array.of(127, -2, 3) });
      }
  });

  it('is judged by its values: neither the norm nor what is not finite hides behind a scale', () => {
    const read = (scale: number): unknown => {
      const coded = decodeTensors(encoded('int8'), 'here');
      coded.set('rows/scale', { shape: [1], values: Float32Array.of(scale) });
      const judged = gradientReader(
        { ...shapesFor(layouts), encoding: 'int8' },
        ({ norm }) => norm < 1e6,
      );
      return judged(deliveredOf(0, coded));
    };
    expect(read(NaN)).toBe('not_finite');
    expect(read(Infinity)).toBe('not_finite');
    expect(read(1e9)).toBe('norm_exceeded');
    expect(read(1)).toMatchObject({ jobIndex: 0 });
  });
});
