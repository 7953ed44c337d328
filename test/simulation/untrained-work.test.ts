/** Orders to work that never trains, over the queue in memory. */

import { expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { extension } from '../../coordinator/runs/control-run.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { ControlScene, RUN } from './control-scene.js';

it('an extension is refused at once by work that never trains', async () => {
  const scene = new ControlScene();
  await scene.run(async () => {
    const { queue, clock } = scene;
    const evaluation = await createQueueDispatcher({
      ...{ queue, clock, limits: queueConfig(), runId: RUN, nonce: 'evaluation' },
      ...{ mayTrain: false, sink: () => undefined },
    });
    const beganMs = clock.monotonicMs();
    await expect(scene.order(extension({ count: 5, isAdded: true }))).rejects.toMatchObject({
      ...{ kind: 'usage', report: { what: 'this run has no outer steps to extend' } },
    });
    expect(clock.monotonicMs()).toBe(beganMs);
    await evaluation.close();
  });
});
