/** The events of trackers, in words. */

import { counted } from '../names/counted.js';
import { detail, notice, warning, type Sentences } from './sentence.js';

type TrackingKind = 'arm-evaluated' | 'notice-sent' | 'tracker-failed' | 'tracker-missed';

export const TRACKING_SENTENCES: Sentences<TrackingKind> = {
  'arm-evaluated': ({ arm, segment, loss }) =>
    detail(`arm ${arm}${segment === null ? '' : ` of ${segment}`}: loss ${loss.toFixed(5)}`),
  'notice-sent': ({ notice: state, address }) => notice(`told ${address}: ${state}`),
  'tracker-failed': ({ tracker, address, reason }) =>
    warning(`${tracker} at ${address} fails: ${reason}; the run goes on, and it is tried again`),
  'tracker-missed': ({ tracker, eventCount }) =>
    warning(`${tracker} misses ${counted(eventCount, 'event')}`),
};
