/** `qianmo compare`: compares evaluated runs on the same test rows. */

import { compare } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { textValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

const BucketEdgesSchema = textValue
  .transform((text) => text.split(',').map(Number))
  .refine((edges) => edges.every((edge) => Number.isInteger(edge) && edge >= 1), {
    error: 'expected whole numbers of at least 1, as 10,100',
  });

export const compareVerb = verb({
  name: 'compare',
  description: 'compare evaluated runs on the same test rows',
  argument: {
    name: '<run...>',
    description:
      "two or more: a run's output folder or s3:// prefix, or its run.yaml; RUN:ARM names an arm",
  },
  options: {
    out: valueOption(
      '--out <folder>',
      'folder for comparison.html and comparison.json',
      textValue,
      {
        defaultText: 'runs/comparison',
      },
    ),
    buckets: valueOption(
      '--buckets <edges>',
      'upper edges of the size buckets in support rows, as 10,100; by default those of the first run',
      BucketEdgesSchema.optional(),
    ),
    segment: valueOption(
      '--segment <name>',
      'the segment to compare, of runs whose tasks have segments',
      textValue.optional(),
    ),
    format,
  },
  takesPlugins: true,
  help: `
The first run is the reference. The default arm is meta-adapted if the run has it.

Example:
  qianmo compare runs/movielens:global runs/movielens runs/maml`,
  run: async (runs, { out, buckets, segment, format }, context) => {
    const request = { runs: [...runs], out, sizeBucketEdges: buckets, segment };
    const report = await compare(request, callOptionsOf(context));
    const { comparisonDocument } =
      await import('../../../coordinator/reports/comparison-document.js');
    printDocument(comparisonDocument(report), format, context);
  },
});
