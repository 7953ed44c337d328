/** The `storage` section of a config: how objects in S3 are reached. */

import { z } from 'zod';

/** How objects at `s3://` addresses are reached; credentials come from the environment. */
export const StorageConfigSchema = z.strictObject({
  /** Of an S3-compatible store; absent for AWS. */
  s3Endpoint: z.url().optional(),
  s3Region: z.string().min(1).default('us-east-1'),
  s3ForcePathStyle: z.boolean().default(true),
});

export type StorageConfig = z.infer<typeof StorageConfigSchema>;
