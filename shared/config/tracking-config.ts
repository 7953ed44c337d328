/**
 * The section `tracking` of a run config: trackers outside of the run. Nothing in it changes a result, and no
 * secret stands in it, since copies of a config are read by many.
 */

import { z } from 'zod';
import { NOTICES } from '../names/event-terms.js';

const MlflowConfigSchema = z
  .strictObject({
    url: z
      .string()
      .max(2_048)
      .regex(/^https?:\/\/[^\s@?#/]+[^\s@?#]*$/, 'expected http(s)://HOST, without user or query')
      .optional()
      .describe('The address of the server; MLFLOW_TRACKING_URI by default.'),
    experiment: z
      .string()
      .min(1)
      .max(250)
      .default('qianmo')
      .describe('The name of the experiment, which is made when it is missing.'),
  })
  .describe('A tracking server of MLflow; credentials come from its variables.');

const WebhookConfigSchema = z
  .strictObject({
    on: z
      .array(z.enum(NOTICES))
      .min(1)
      .default([...NOTICES])
      .describe('The states that are told.'),
  })
  .describe('Notices that the run has finished, failed or stalled, to QIANMO_WEBHOOK_URL.');

export const TrackingConfigSchema = z
  .strictObject({
    mlflow: MlflowConfigSchema.optional(),
    webhook: WebhookConfigSchema.optional(),
  })
  .describe(
    'Trackers that follow `train`, `evaluate`, `refresh` and open runs. A tracker that fails or hangs costs the run nothing.',
  );

export type TrackingConfig = z.infer<typeof TrackingConfigSchema>;
