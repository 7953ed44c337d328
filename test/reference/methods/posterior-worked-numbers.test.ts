// One Newton step of posterior blocks by hand, with both solvers.

import { expect, test } from 'vitest';
import type { AdaptingTasks } from '../../../shared/methods/inner-loop/inner-loop.js';
import { posterior } from '../../../shared/methods/posterior.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';

test.each(['tensorflow', 'cpu'] as const)(
  'two rows of values, a bias and one response: on %s',
  async (backend) => {
    const { tf, kernels } = await loadEngine(backend, () => undefined);
    // A = [[1, 1], [0, 2]] [[1, 0], [1, 2]] + I = [[3, 2], [2, 5]], and the residuals 1 and 2 give J'r = [3, 4], so that
    // phi = [3 * 5 - 2 * 4, 3 * 4 - 2 * 3] / 11.
    const { innerLoop } = posterior.planOf(
      posterior.settings.parse({ kind: 'posterior', inputMeans: false, innerRate: 1 }),
    );
    const variables = { bias: [0], 'output.weight': [[0]] };
    const tasks: Partial<AdaptingTasks> = {
      ...{ tf, taskCount: 1, personal: ['bias', 'output.weight'], solve: kernels.solve },
      variable: (name) =>
        name.startsWith('posterior.')
          ? tf.zerosLike(tf.tensor(variables[name.slice(20) as keyof typeof variables]))
          : tf.tensor(variables[name as keyof typeof variables]),
      trunkFlags: () => null,
      repeatByTask: (x) => kernels.repeatByTask(x, 1),
      supportTotals: () => ({ impressions: tf.tensor1d([2]), clicks: tf.tensor1d([3]) }),
    };
    const after = innerLoop.step!(tasks as AdaptingTasks, {
      blocks: { bias: tf.tensor2d([[0]]), 'output.weight': tf.tensor3d([[[0]]]) },
      // Of the mean loss.
      scaledGradients: {
        bias: tf.tensor2d([[-1.5]]),
        'output.weight': tf.tensor3d([[[-2]]]),
      },
      rates: tf.tensor1d([1]),
      supportCurvature: () => ({
        slopes: tf.tensor3d([
          [
            [1, 0],
            [1, 2],
          ],
        ]),
        variances: tf.tensor2d([[0.5, 0.5]]),
      }),
    });
    expect(after['bias']!.dataSync()[0]).toBeCloseTo(7 / 11, 5);
    expect(after['output.weight']!.dataSync()[0]).toBeCloseTo(6 / 11, 5);
  },
);
