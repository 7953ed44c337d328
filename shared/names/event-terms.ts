/** The words that fields of events and labels of metrics can have. */

/** Why a worker ends its compute process. */
export const COMPUTE_END_REASONS = [
  'deadline',
  'aborted',
  'bad-message',
  'lost-channel',
  'not-started',
  'replaced',
  'other-instructions',
  'closed',
] as const;

/** Why a job failed; `job-failure.ts` describes each kind. */
export const JOB_FAILURE_KINDS = [
  'blob-missing',
  'refused',
  'sick',
  'worker-lost',
  'permanent',
  'transient',
] as const;

/** Why a coordinator does not use a result. */
export const REJECTIONS = [
  'duplicate',
  'not_of_this_step',
  'other_fingerprint',
  'layout_mismatch',
  'not_finite',
  'wrong_blob',
  'forged',
] as const;

/** The phases of an outer step, in the order in which they begin. */
export const STEP_PHASES = [
  'sample',
  'pack',
  'queue',
  'fetch',
  'compute',
  'upload',
  'aggregate',
  'optimise',
  'checkpoint',
] as const;
export type StepPhase = (typeof STEP_PHASES)[number];

/** The pools of workers. */
export const DEVICE_POOLS = ['cpu', 'gpu'] as const;
export type DevicePool = (typeof DEVICE_POOLS)[number];

/** Run states that a webhook reports. */
export const NOTICES = ['finished', 'failed', 'stalled'] as const;
export type NoticeKind = (typeof NOTICES)[number];

/** The verdicts on a bundle that was judged on later rows. */
export const BUNDLE_VERDICTS = ['labelled', 'rejected', 'rolled-back'] as const;
