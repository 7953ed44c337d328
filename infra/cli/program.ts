/** The verbs and their options. What a verb does is in `verbs/`, loaded when it is called. */

import { Command, Option } from 'commander';
import type { CommandContext } from './command-context.js';
import {
  deviceOption,
  formatOption,
  gpuIndexOption,
  inProcessOption,
  integerBetween,
  redisOption,
  workersOption,
} from './options.js';
import { addExperimentVerbs } from './program-experiments.js';
import { usageFailure } from './usage-failure.js';

export function buildProgram(context: CommandContext): Command {
  const program = new Command('qianmo')
    .description('Meta-training for advertising: one shared trunk, a personal model per adgroup.')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText(
      'after',
      `
Example, from logs to an evaluated model:
  qianmo prepare run.yaml
  qianmo train run.yaml --workers 2
  qianmo evaluate run.yaml

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 environment missing, 4 interrupted and resumable.`,
    );
  addDataVerbs(program, context);
  addTrainingVerbs(program, context);
  addExperimentVerbs(program, context);
  addServiceVerbs(program, context);
  for (const command of program.commands) refuseClearly(command);
  refuseClearly(program);
  return program;
}

function addDataVerbs(program: Command, context: CommandContext): void {
  program
    .command('synthesize')
    .description('write an advertising log whose true click probabilities are known')
    .requiredOption('--out <file>', 'where to write; .csv, .csv.gz or .parquet')
    .option('--rows <count>', 'impressions, as 760000, 760k or 10M', '1M')
    .option('--setting <name>', 'homogeneous, moderate or strong', 'strong')
    .option('--click-rate <rate>', 'mean click rate, between 0 and 1', '0.03')
    .option('--seed <seed>', 'the same seed gives the same bytes', '1')
    .option('--adgroups <count>', 'number of adgroups; by default in proportion to the rows')
    .option('--users <count>', 'number of users; by default in proportion to the rows')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  qianmo synthesize --rows 10M --out runs/log.csv')
    .action(async (options: unknown) => {
      const { synthesizeVerb } = await import('./verbs/synthesize.js');
      await synthesizeVerb(options, context);
    });
  program
    .command('prepare')
    .description('turn logs into a task store')
    .argument('<run.yaml>', 'the run config')
    .option('--force', 'prepare again even if the store is of the same logs and config')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  qianmo prepare infra/examples/movielens.yaml')
    .action(async (path: string, options: unknown) => {
      const { prepareVerb } = await import('./verbs/prepare.js');
      await prepareVerb(path, options, context);
    });
}

function addTrainingVerbs(program: Command, context: CommandContext): void {
  program
    .command('train')
    .description('meta-train on the training tasks of a prepared store')
    .argument('<run.yaml>', 'the run config')
    .addOption(workersOption())
    .addOption(inProcessOption())
    .addOption(redisOption())
    .option('--resume', 'go on from the latest checkpoint')
    .addOption(
      new Option('--fresh', 'start again although checkpoints of this run are there').conflicts(
        'resume',
      ),
    )
    .option('--dashboard', 'serve the queue board while training')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Example:
  qianmo train run.yaml --workers 2
Without --workers and --in-process the coordinator waits for workers started elsewhere:
  qianmo worker --redis redis://127.0.0.1:6379`,
    )
    .action(async (path: string, options: unknown) => {
      const { trainVerb } = await import('./verbs/train.js');
      await trainVerb(path, options, context);
    });
  program
    .command('evaluate')
    .description('compare the arms of a trained run on held-out adgroups')
    .argument('<run.yaml>', 'the run config')
    .addOption(workersOption())
    .addOption(inProcessOption())
    .addOption(redisOption())
    .option('--predictions <file>', 'write per-row predictions of every arm as Parquet')
    .option('--fresh', 'train the global arm again')
    .addOption(formatOption())
    .addHelpText(
      'after',
      '\nExample:\n  qianmo evaluate run.yaml --workers 2 --predictions p.parquet',
    )
    .action(async (path: string, options: unknown) => {
      const { evaluateVerb } = await import('./verbs/evaluate.js');
      await evaluateVerb(path, options, context);
    });
  program
    .command('stream')
    .description(
      'learn an update rule on logs in order of time, and hold it against tuned baselines',
    )
    .argument('<stream.yaml>', 'the stream config')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  qianmo stream infra/examples/movielens-stream.yaml')
    .action(async (path: string, options: unknown) => {
      const { streamVerb } = await import('./verbs/stream.js');
      await streamVerb(path, options, context);
    });
  program
    .command('demo')
    .description('prepare, train and evaluate the MovieLens example on two local workers')
    .option('--out <folder>', 'where the run is kept', 'runs/movielens')
    .addHelpText('after', '\nExample:\n  qianmo demo --out runs/demo')
    .action(async (options: unknown) => {
      const { demoVerb } = await import('./verbs/demo.js');
      await demoVerb(options, context);
    });
}

function addServiceVerbs(program: Command, context: CommandContext): void {
  program
    .command('setup')
    .description('obtain what this machine lacks: native TensorFlow and a Redis server')
    .option('--gpu', 'TensorFlow with CUDA 12, 3.3 GB of downloads')
    .addHelpText(
      'after',
      '\nThe first use of any verb does this by itself; this one tries again what failed then.' +
        '\n\nExample:\n  qianmo setup --gpu',
    )
    .action(async (options: unknown) => {
      const { setupVerb } = await import('./verbs/setup.js');
      await setupVerb(options, context);
    });
  program
    .command('worker')
    .description('carry jobs of any run from the queue until stopped')
    .requiredOption('--redis <url>', 'the Redis server of the queue')
    .option('--prefix <prefix>', 'the queue prefix of the config', '{qianmo}')
    .option('--name <name>', 'the name results carry; by default host and process')
    .addOption(deviceOption())
    .addOption(gpuIndexOption())
    .addHelpText('after', '\nExample:\n  qianmo worker --redis redis://10.0.0.5:6379')
    .action(async (options: unknown) => {
      const { workerVerb } = await import('./verbs/worker.js');
      await workerVerb(options, context);
    });
  program
    .command('dashboard')
    .description('serve the queue board, read-only, on the loopback address')
    .requiredOption('--redis <url>', 'the Redis server of the queue')
    .option('--prefix <prefix>', 'the queue prefix of the config', '{qianmo}')
    .option('--port <port>', 'port, 0 for any free one', integerBetween(0, 65535), 3000)
    .addHelpText(
      'after',
      '\nExample:\n  qianmo dashboard --redis redis://127.0.0.1:6379 --port 3000',
    )
    .action(async (options: unknown) => {
      const { dashboardVerb } = await import('./verbs/dashboard.js');
      await dashboardVerb(options, context);
    });
  program
    .command('check')
    .description('check what a run needs and say how to cure what is missing')
    .argument('[run.yaml]', 'the run config, to check its config, store, queue and output too')
    .addOption(redisOption())
    .addOption(deviceOption())
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  qianmo check run.yaml')
    .action(async (path: string | undefined, options: unknown) => {
      const { checkVerb } = await import('./verbs/check.js');
      await checkVerb(path, options, context);
    });
  program
    .command('version')
    .description('print the version of qianmo')
    .addHelpText('after', '\nExample:\n  qianmo version')
    .action(async () => {
      const { versionVerb } = await import('./verbs/version.js');
      await versionVerb(context);
    });
}

/** Commander's own message as a report, so that every refusal reads alike. */
function refuseClearly(command: Command): void {
  command.exitOverride((error) => {
    // Asked for or not, help was printed and says it all.
    if (error.exitCode === 0 || error.code === 'commander.help') throw error;
    throw usageFailure(error.message, command.name());
  });
}
