/** The name of a run. It is part of keys and job ids of the queue, and of file names. */

import { z } from 'zod';

export const RunNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and -')
  .describe('The name of the run, on the queue and in its output.');
