/** The verbs that set several runs side by side, and their options. */

import { InvalidArgumentError, Option, type Command } from 'commander';
import type { CommandContext } from './command-context.js';
import { formatOption, inProcessOption, redisOption, workersOption } from './options.js';

export function addExperimentVerbs(program: Command, context: CommandContext): void {
  program
    .command('compare')
    .description('set evaluated runs side by side, on the same test rows')
    .argument(
      '<run...>',
      "two or more: a run's output folder or s3:// prefix, or its run.yaml; RUN:ARM names an arm",
    )
    .option('--out <folder>', 'where comparison.html and comparison.json go', 'runs/comparison')
    .option(
      '--buckets <edges>',
      'upper edges of the size buckets in support rows, as 10,100; by default those of the first run',
      bucketEdges,
    )
    .option('--segment <name>', 'of runs whose tasks have segments, the one to compare')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
The first run is what the others are compared with. The default arm is meta-adapted where there is one.

Example:
  qianmo compare runs/movielens:global runs/movielens runs/maml`,
    )
    .action(async (runs: string[], options: unknown) => {
      const { compareVerb } = await import('./verbs/compare.js');
      await compareVerb(runs, options, context);
    });
  program
    .command('sweep')
    .description('try methods and settings, narrowed down on the validation adgroups')
    .argument('<sweep.yaml>', 'the sweep; it names the run config that its trials depart from')
    .addOption(workersOption())
    .addOption(inProcessOption())
    .addOption(redisOption())
    .option('--resume', 'go on with the sweep that is there')
    .addOption(new Option('--fresh', 'start again although a sweep is there').conflicts('resume'))
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Each trial is a run of its own below the sweep's output; the best one's config is written as best.yaml.

Example:
  qianmo sweep infra/examples/sweep.yaml --workers 2`,
    )
    .action(async (path: string, options: unknown) => {
      const { sweepVerb } = await import('./verbs/sweep.js');
      await sweepVerb(path, options, context);
    });
}

function bucketEdges(text: string): number[] {
  const edges = text.split(',').map(Number);
  if (edges.some((edge) => !Number.isInteger(edge) || edge < 1))
    throw new InvalidArgumentError('expected whole numbers of at least 1, as 10,100.');
  return edges;
}
