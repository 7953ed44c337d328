/**
 * The message that tells a coordinator that one of its jobs has finished, over a channel of Redis. A message may be
 * lost: the record of the job is the truth. BullMQ's own events would go to every coordinator of the queue, which
 * would parse the results of all runs.
 */

import { z } from 'zod';

const WakeUpSchema = z.strictObject({
  jobId: z.string(),
  /** The result, as the queue keeps it; absent when the job failed. */
  returnValue: z.unknown().optional(),
});
type WakeUpMessage = z.infer<typeof WakeUpSchema>;

/**
 * @param prefix of the queue's keys; a user with few rights may use the channels below it.
 * @param start the nonce of the start that hears the channel
 */
export function wakeUpChannelOf(prefix: string, start: string): string {
  return `${prefix}:wake-ups:${start}`;
}

/** The nonce of the start that has added a job, which `startSuffixOf` put into its id. Empty without one. */
export function startOf(jobId: string): string {
  return /-([^-]+)-\d+$/.exec(jobId)?.[1] ?? '';
}

export function wakeUpText(message: WakeUpMessage): string {
  return JSON.stringify(message);
}

/** Null for anything else that somebody has sent. */
export function wakeUpOf(text: string): WakeUpMessage | null {
  try {
    return WakeUpSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
