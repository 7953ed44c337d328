/** The verbs as commander's program: it reads the command line and hands on the verb it names. */

import { Command } from 'commander';
import { usageFailure } from './usage-failure.js';
import type { ParsedVerb, Verb } from './verb.js';

/** @param carryOut given the verb that the command line names, with its options read */
export function commanderProgram(
  program: Command,
  verbs: readonly Verb[],
  carryOut: (parsed: ParsedVerb) => Promise<void>,
): Command {
  for (const verb of verbs) program.addCommand(commandOf(verb, carryOut));
  for (const command of [...program.commands, program]) refuseClearly(command);
  return program;
}

function commandOf(verb: Verb, carryOut: (parsed: ParsedVerb) => Promise<void>): Command {
  const command = new Command(verb.name).description(verb.description);
  if (verb.argument !== undefined) command.argument(verb.argument.name, verb.argument.description);
  for (const option of verb.options) command.addOption(option);
  command.addHelpText('after', verb.help);
  return command.action(() => carryOut(verb.parse(command.args, command.opts())));
}

/** Commander's own message as a report, so that every refusal reads alike. */
function refuseClearly(command: Command): void {
  command
    .exitOverride((error) => {
      // The help was printed, whether or not it was requested.
      if (error.exitCode === 0 || error.code === 'commander.help') throw error;
      throw usageFailure(error.message, command.name());
    })
    .configureOutput({ outputError: () => undefined });
}
