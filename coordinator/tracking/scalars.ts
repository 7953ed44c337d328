/** The numbers of a run that trackers draw as curves, from its events. */

import type { RunEventOf, StampedEvent } from '../../shared/events/run-events.js';
import { measuredPart, sizeMeansOf } from '../../shared/events/size-losses.js';

export interface Scalar {
  /** `loss/query`: trackers group by what stands before the first slash. */
  readonly name: string;
  /** May be infinite or not a number. */
  readonly value: number;
  readonly outerStep: number;
  readonly epochMs: number;
}

export function scalarsOf(event: StampedEvent): readonly Scalar[] {
  const named = (outerStep: number, values: Readonly<Record<string, number | null>>): Scalar[] =>
    Object.entries(values).flatMap(([name, value]) =>
      value === null ? [] : [{ name, value, outerStep, epochMs: event.epochMs }],
    );
  switch (event.kind) {
    case 'outer-step':
      return named(event.outerStep, {
        'loss/query': event.queryLoss,
        'loss/query-before-adaptation': event.queryLossBefore ?? null,
        'loss/support': event.supportLoss,
        ...lossesBySizeOf(event),
        'training/gradient-norm': event.gradientNorm,
        'training/tasks-per-second': event.tasksPerSecond,
      });
    case 'run-validated':
      return named(event.outerStep, { 'loss/validation': event.loss });
    case 'arm-evaluated': {
      const { arm, segment, outerStep, loss, lossPerAdgroup, auc, calibration } = event;
      const place = segment === null ? arm : `${namePart(segment)}/${arm}`;
      return named(outerStep, {
        [`evaluation/${place}/loss`]: loss,
        [`evaluation/${place}/loss-per-adgroup`]: lossPerAdgroup,
        [`evaluation/${place}/auc`]: auc,
        [`evaluation/${place}/calibration`]: calibration,
      });
    }
    default:
      return [];
  }
}

/** Every size is told as often, so that a server of trackers has a few numbers more and not three times as many. */
const SIZED_EVERY_OUTER_STEPS = 10;

/** Losses by size, in every tenth outer step and in those that measure the query loss before adaptation. */
function lossesBySizeOf({
  outerStep,
  queryLossBefore,
  bySize,
}: RunEventOf<'outer-step'>): Record<string, number | null> {
  const isTold = queryLossBefore !== undefined || outerStep % SIZED_EVERY_OUTER_STEPS === 0;
  if (bySize === undefined || !isTold) return {};
  const means = sizeMeansOf(bySize, measuredPart(bySize));
  return Object.fromEntries(
    means.flatMap((mean) => {
      const place = `loss-by-size/${namePart(mean.size.replace('>', 'over '))}`;
      return [
        [`${place}/query`, mean.queryLoss],
        [`${place}/query-before-adaptation`, mean.queryLossBefore],
        [`${place}/support`, mean.supportLoss],
      ];
    }),
  );
}

/** Names of metrics have no other characters in MLflow. */
function namePart(text: string): string {
  return text.replace(/[^\w. -]/g, '_').slice(0, 100);
}
