/**
 * The section `tracking` of a run config: trackers outside of the run. Nothing in it changes a result, and no
 * secret stands in it, since copies of a config are read by many.
 */

import { z } from 'zod';
import { NOTICES } from '../names/event-terms.js';

const filePath = z.string().min(1).max(4_096);

const TensorBoardConfigSchema = z
  .strictObject({
    folder: filePath
      .optional()
      .describe('The folder of the event files; `tensorboard` in the output by default.'),
  })
  .describe('Event files that TensorBoard reads. `tensorboard: {}` writes them to the output.');

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
    tokenFile: filePath
      .optional()
      .describe('A file with the bearer token; MLFLOW_TRACKING_TOKEN by default.'),
    username: z
      .string()
      .min(1)
      .max(250)
      .optional()
      .describe('The user of a server with passwords; MLFLOW_TRACKING_USERNAME by default.'),
    passwordFile: filePath
      .optional()
      .describe('A file with the password; MLFLOW_TRACKING_PASSWORD by default.'),
  })
  .describe('A tracking server of MLflow, reached over its REST interface.');

const WebhookConfigSchema = z
  .strictObject({
    urlFile: filePath
      .optional()
      .describe(
        'A file with the address, which is often a secret itself; QIANMO_WEBHOOK_URL by default.',
      ),
    secretFile: filePath
      .optional()
      .describe(
        'A file with the key that signs the notices; QIANMO_WEBHOOK_SECRET by default. Without one they are unsigned.',
      ),
    on: z
      .array(z.enum(NOTICES))
      .min(1)
      .default([...NOTICES])
      .describe('The states that are told.'),
  })
  .describe('An address that is told when the run has finished, failed or stalled: once each.');

export const TrackingConfigSchema = z
  .strictObject({
    tensorboard: TensorBoardConfigSchema.optional(),
    mlflow: MlflowConfigSchema.optional(),
    webhook: WebhookConfigSchema.optional(),
    closingSeconds: z
      .number()
      .min(0)
      .max(300)
      .default(10)
      .describe('How long the end of a call waits for trackers, at most.'),
  })
  .describe(
    'Trackers that follow `train`, `evaluate`, `refresh` and open runs. A tracker that fails or hangs costs the run nothing.',
  );

export type TrackingConfig = z.infer<typeof TrackingConfigSchema>;
export type MlflowConfig = z.infer<typeof MlflowConfigSchema>;
export type WebhookConfig = z.infer<typeof WebhookConfigSchema>;
