/**
 * A verb as one declaration: its name, its options, its help and its action. The command line that
 * commander reads and the typed options of the action come from the same table.
 */

import { Option } from 'commander';
import { z } from 'zod';
import type { CommandContext } from './command-context.js';
import { loadPlugins } from '../../../shared/plugins/load-plugins.js';
import { parsedOptions } from './usage-failure.js';

/** An option of the command line, and the schema that turns its text into a value. */
interface VerbOption<Schema extends z.ZodType = z.ZodType> {
  readonly option: Option;
  readonly schema: Schema;
}

/** Keyed by the names that commander gives to the values: `--log-format` is `logFormat`. */
type OptionTable = Readonly<Record<string, VerbOption>>;

type OptionValues<Table extends OptionTable> = {
  readonly [Name in keyof Table]: z.output<Table[Name]['schema']>;
};

interface VerbDeclaration<Table extends OptionTable> {
  readonly name: string;
  readonly description: string;
  /** `<run.yaml>` is required, `[run.yaml]` optional, `<run...>` repeated. */
  readonly argument?: { readonly name: string; readonly description: string };
  readonly options: Table;
  /** Takes `--plugin`: the files are loaded before the verb runs. */
  readonly takesPlugins?: true;
  /** Follows the list of options in the help; holds an example. */
  readonly help: string;
  /** @param operands the arguments that are not options */
  readonly run: (
    operands: readonly string[],
    options: OptionValues<Table>,
    context: CommandContext,
  ) => Promise<void>;
}

/** A verb with its options parsed, ready to run. */
export type ParsedVerb = (context: CommandContext) => Promise<void>;

export interface Verb {
  readonly name: string;
  readonly description: string;
  readonly argument?: { readonly name: string; readonly description: string };
  readonly options: readonly Option[];
  readonly help: string;
  /** @throws QianmoError of kind `usage` that names the first option that is wrong. */
  parse(operands: readonly string[], rawOptions: unknown): ParsedVerb;
}

export function verb<Table extends OptionTable>(declaration: VerbDeclaration<Table>): Verb {
  const { name, options, takesPlugins = false, run } = declaration;
  for (const [key, { option }] of Object.entries(options))
    if (option.attributeName() !== key)
      throw new Error(`verb ${name}: ${option.flags} is not the option ${key}`);
  return {
    name,
    description: declaration.description,
    ...(declaration.argument === undefined ? {} : { argument: declaration.argument }),
    options: [
      ...Object.values(options).map(({ option }) => option),
      ...(takesPlugins ? [pluginOption()] : []),
    ],
    help: declaration.help,
    parse: (operands, rawOptions) => {
      const { plugin: plugins, ...own } = PluginOptionSchema.parse(rawOptions);
      const values = parsedOptions(schemaOf(options), own, name);
      return async (context) => {
        await loadPlugins(plugins);
        await run(operands, values, context);
      };
    },
  };
}

const PluginOptionSchema = z.looseObject({ plugin: z.array(z.string()).default([]) });

function pluginOption(): Option {
  return new Option(
    '--plugin <file>',
    'a file that defines a method or model; repeat it for several',
  ).argParser((path: string, earlier: readonly string[] | undefined) => [...(earlier ?? []), path]);
}

function schemaOf<Table extends OptionTable>(options: Table): z.ZodType<OptionValues<Table>> {
  const shape = Object.entries(options).map(([name, { schema }]) => [name, schema] as const);
  // `Object.fromEntries` forgets which schema belongs to which name.
  return z.strictObject(Object.fromEntries(shape)) as unknown as z.ZodType<OptionValues<Table>>;
}

/** The operand of a verb that requires one. */
export function firstOf([operand]: readonly string[]): string {
  if (operand === undefined) throw new Error('commander requires this argument');
  return operand;
}

/** Properties of an option that commander handles. */
interface OptionSettings {
  /** The text that stands for an option that is not given. */
  readonly defaultText?: string;
  /** The environment variable that is read when the option is not given. */
  readonly variable?: string;
  /** The name of the option that it cannot be combined with. */
  readonly conflictsWith?: string;
  readonly isRequired?: boolean;
}

/** An option that takes a value; its schema reads the text. */
export function valueOption<Schema extends z.ZodType>(
  flags: string,
  description: string,
  schema: Schema,
  settings: OptionSettings = {},
): VerbOption<Schema> {
  return { option: commanderOption(flags, description, settings), schema };
}

const FlagSchema = z.boolean().default(false);

/** An option that is given or not. */
export function flagOption(
  flags: string,
  description: string,
  settings: OptionSettings = {},
): VerbOption<typeof FlagSchema> {
  return { option: commanderOption(flags, description, settings), schema: FlagSchema };
}

/** An option that takes one of a few words. */
export function choiceOption<Word extends string>(
  flags: string,
  description: string,
  words: z.ZodType<Word> & { readonly options: readonly Word[] },
  defaultText: Word,
): VerbOption<z.ZodType<Word>> {
  const option = commanderOption(flags, description, { defaultText });
  return { option: option.choices(words.options), schema: words };
}

function commanderOption(flags: string, description: string, settings: OptionSettings): Option {
  const { defaultText, variable, conflictsWith, isRequired = false } = settings;
  const option = new Option(flags, description).makeOptionMandatory(isRequired);
  if (defaultText !== undefined) option.default(defaultText);
  if (variable !== undefined) option.env(variable);
  if (conflictsWith !== undefined) option.conflicts(conflictsWith);
  return option;
}

export const textValue = z.string().min(1, 'expected a value');

export function integerValue(smallest: number, largest: number): z.ZodType<number, string> {
  const expected = `expected a whole number from ${smallest} to ${largest}`;
  return textValue
    .transform(Number)
    .pipe(z.number(expected).int(expected).min(smallest, expected).max(largest, expected));
}
