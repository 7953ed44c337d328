/** The requests that read the records of runs. */

import { z } from 'zod';
import { ControlRequestSchema } from '../requests.js';

const text = z.string().min(1);
/** The output of a run, a folder or an `s3://` prefix, or the path of its config. */
const run = text;

export const StatusRequestSchema = z.strictObject({ run });

export const WaitRequestSchema = z.strictObject({
  run,
  /** Absent: as long as the run lives. */
  timeoutSeconds: z.number().positive().optional(),
});

export const RunsRequestSchema = z.strictObject({
  folders: z.array(text).min(1),
});

export const LogRequestSchema = z.strictObject({
  run,
  /** Events that are told later, until the run ends. */
  follow: z.boolean().default(false),
  /** The number of the last events; absent: all that the record holds. */
  last: z.int().positive().optional(),
  /** Whether details are told as well, such as each job. */
  details: z.boolean().default(false),
});

export const WorkersRequestSchema = ControlRequestSchema.omit({ run: true });

export type StatusRequest = z.input<typeof StatusRequestSchema>;
export type WaitRequest = z.input<typeof WaitRequestSchema>;
export type RunsRequest = z.input<typeof RunsRequestSchema>;
export type LogRequest = z.input<typeof LogRequestSchema>;
export type WorkersRequest = z.input<typeof WorkersRequestSchema>;
