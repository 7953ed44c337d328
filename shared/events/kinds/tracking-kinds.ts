/** The kinds of events that trackers are about: a part of the vocabulary in `event-kinds.ts`. */

import { z } from 'zod';

const count = z.int().nonnegative();

/** The states of a run that a webhook is told. */
export const NOTICES = ['finished', 'failed', 'stalled'] as const;
export type NoticeKind = (typeof NOTICES)[number];

/** Trackers outside of the run, and what is told to them alone. */
export const TRACKING_SHAPES = {
  /** One arm of an evaluation, on the test adgroups. */
  'arm-evaluated': {
    ...{ arm: z.string(), segment: z.string().nullable(), outerStep: count },
    /** Logloss, or squared error where labels are values: per impression, and the mean over adgroups. */
    ...{ loss: z.number(), lossPerAdgroup: z.number() },
    ...{ auc: z.number().nullable(), calibration: z.number().nullable() },
  },
  'notice-sent': { notice: z.enum(NOTICES), address: z.string() },
  /** Told at the first failure of a tracker; it is tried again. */
  'tracker-failed': { tracker: z.string(), address: z.string(), reason: z.string() },
  /** Lost to a tracker by the end of the call. */
  'tracker-missed': { tracker: z.string(), eventCount: z.int().positive() },
};
