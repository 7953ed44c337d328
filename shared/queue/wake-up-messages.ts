/**
 * What a worker tells all coordinators of its queue when it has finished a job, over a channel of Redis. A message
 * may be lost: the record of the job is the truth.
 */

import { z } from 'zod';

const WakeUpSchema = z.strictObject({
  jobId: z.string(),
  /** The result, as the queue keeps it; absent when the job failed. */
  returnValue: z.unknown().optional(),
});
type WakeUpMessage = z.infer<typeof WakeUpSchema>;

/** @param prefix of the queue's keys; a user with few rights may use the channels below it. */
export function wakeUpChannelOf(prefix: string): string {
  return `${prefix}:wake-ups`;
}

export function wakeUpText(message: WakeUpMessage): string {
  return JSON.stringify(message);
}

/** The message of a finished job up to its result, which follows as JSON, before a last brace. */
export function resultHeadOf(jobId: string): string {
  return `${wakeUpText({ jobId }).slice(0, -1)},"returnValue":`;
}

/** Null for anything else that somebody has sent. */
export function wakeUpOf(text: string): WakeUpMessage | null {
  try {
    return WakeUpSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
