/** The numbers of a run that trackers draw as curves, from its events. */

import type { StampedEvent } from '../../../shared/events/run-events.js';

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
        'loss/support': event.supportLoss,
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

/** Names of metrics have no other characters in MLflow. */
function namePart(text: string): string {
  return text.replace(/[^\w. -]/g, '_').slice(0, 100);
}
