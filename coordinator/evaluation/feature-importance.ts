/**
 * How much the adapted model needs each feature: what it loses on query rows of validation adgroups where they have the
 * values that the feature has in another adgroup. What tasks have learned from their support rows stays as it is.
 */

import { at, spreadOver } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { EXCHANGING_TASKS_MAX } from '../../shared/tasks/task-copies.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { FeatureImportance } from '../scoring/evaluation-report.js';
import { readFlatRows } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import { pairedDifference } from '../scoring/validated-losses.js';
import {
  dividedStore,
  predictLogits,
  type AdaptableModel,
  type TaskJobContext,
} from './task-jobs.js';

interface AdaptedModel {
  readonly model: AdaptableModel;
  readonly adaptation: Adaptation;
}

interface Judged {
  readonly store: TaskStore;
  readonly taskIndices: readonly number[];
  readonly seed: number;
}

/** Features by falling importance; none without a model, or where fewer than two adgroups can exchange values. */
export async function featureImportance(
  contextOf: (stage: string, taskTotal: number) => TaskJobContext,
  adapted: AdaptedModel | null,
  { store, taskIndices, seed }: Judged,
): Promise<FeatureImportance[]> {
  const judged = taskIndices.filter((index) => at(store.tasks, index).queryRowCount > 0);
  if (adapted === null || judged.length < 2) return [];
  // Each gets the values of the next.
  const tasks = randomStream(seed, 'exchanged values').shuffle(
    spreadOver(judged, EXCHANGING_TASKS_MAX),
  );
  const features = store.manifest.features.filter(
    (feature) => feature.kind !== 'number' || feature.encodes === undefined,
  );
  const context = contextOf('importance of features', tasks.length * (1 + features.length));
  const impressions = adgroupImpressions(await readFlatRows(store, tasks, 'query'));
  const lossesWith = async (changed: Partial<TaskJobContext>): Promise<Float64Array> => {
    const { lossSums } = await predictLogits(
      { ...context, ...changed },
      {
        ...{ ...adapted.model, taskIndices: tasks, adaptations: [adapted.adaptation] },
        ...{ role: 'query', keep: [] },
      },
    );
    return at(lossSums, 0);
  };
  const before = await lossesWith({});
  const found: FeatureImportance[] = [];
  for (const { name: feature } of features) {
    const losses = await lossesWith(dividedStore(store, tasks, { by: 'exchange', feature, tasks }));
    const difference = pairedDifference(losses, before, impressions);
    if (difference === null) continue;
    const { value: increase, standardError } = difference;
    found.push({ feature, increase, standardError });
  }
  return found.sort((a, b) => b.increase - a.increase);
}
