/** The command line of the table of verbs. Commander parses it, and the schemas of the table check it. */

import { Command, Option } from 'commander';
import { z } from 'zod';
import { asText } from '../../coordinator/reports/document/as-text.js';
import { QianmoError } from '../../shared/base/errors.js';
import { loadPlugins } from '../../shared/plugins/load-plugins.js';
import '../library/index.js';
import type { Shown } from '../library/verb.js';
import type { CommandContext } from './command-context.js';
import './own-verbs.js';
import {
  flagOf,
  operandOf,
  ownFields,
  tableCommands,
  type CommandField,
  type TableCommand,
} from './table-commands.js';

/** A verb with its options parsed, ready to run. */
type ParsedVerb = (context: CommandContext) => Promise<void>;
type CarryOut = (parsed: ParsedVerb) => Promise<void>;

/** Words that have verbs below them. */
const GROUPS: Readonly<Record<string, string>> = {
  bundle: 'list, check and convert bundles, move their labels and remove them',
};

/**
 * @param words the command line. A first word that names a verb gives a program of this verb alone; any
 *   other gives all of them, for the help or a suggestion.
 * @param carryOut given the verb that the command line names, with its options read
 * @param write takes the help
 */
export function buildProgram(
  words: readonly string[],
  carryOut: CarryOut,
  write?: (text: string) => void,
): Command {
  const program = new Command('qianmo')
    .description('Meta-training for advertising: one shared trunk, a personal model per adgroup.')
    .addHelpText(
      'after',
      `
Example, from logs to an evaluated model:
  qianmo prepare run.yaml
  qianmo train run.yaml
  qianmo evaluate run.yaml

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 environment missing, 4 interrupted and resumable,
5 cancelled and resumable.`,
    );
  const commands = tableCommands();
  const named = commands.filter((each) => each.words[0] === words[0]);
  for (const each of named.length === 0 ? commands : named)
    parentOf(each, program).addCommand(commandOf(each, carryOut));
  refuseClearly(program, 'qianmo', write);
  return program;
}

function parentOf({ words: [name = '', ...rest], verbs }: TableCommand, program: Command): Command {
  if (rest.length === 0) return program;
  let group = program.commands.find((each) => each.name() === name);
  if (group === undefined) {
    group = new Command(name).description(GROUPS[name] ?? '');
    program.addCommand(group);
  }
  return group.addHelpText('after', verbs[0].entry.help ?? '');
}

function commandOf(table: TableCommand, carryOut: CarryOut): Command {
  const { words, verbs, operands, options } = table;
  const { about, help = '' } = verbs[0].entry;
  const command = new Command(words.at(-1)).description(about).addHelpText('after', help);
  for (const field of operands) command.argument(operandOf(field), field.description);
  for (const field of options) command.addOption(optionOf(field, options));
  return command.action(() => {
    const { args } = command;
    const opts = command.opts();
    const given = new Map<CommandField, unknown>();
    for (const [index, field] of operands.entries())
      given.set(field, field.kind === 'texts' ? args : args[index]);
    for (const field of options) given.set(field, opts[field.option ?? field.name]);
    return carryOut(parsedVerb(table, given));
  });
}

function optionOf(field: CommandField, options: readonly CommandField[]): Option {
  const { kind, word, description, words, isRequired, variable, default: fallback } = field;
  const flags = kind === 'flag' ? flagOf(field) : `${flagOf(field)} <${word}>`;
  const option = new Option(flags, description).makeOptionMandatory(isRequired);
  if (typeof fallback === 'string' || typeof fallback === 'number')
    option.default(String(fallback));
  // Commander names them in the help; the schema refuses others.
  if (words.length > 0) option.argChoices = [...words];
  if (variable !== undefined) option.env(variable);
  const other = options.find(({ name }) => name === field.conflicts);
  if (other !== undefined) option.conflicts(other.option ?? other.name);
  if (field.name === 'plugin')
    option.argParser((path: string, earlier?: readonly string[]) => [...(earlier ?? []), path]);
  return option;
}

/** Options of the command alone that all entries treat alike. */
const CommonSchema = z.looseObject({
  plugin: z.array(z.string()).default([]),
  logFormat: z.string().optional(),
  metricsPort: z.number().optional(),
  metricsHost: z.string().default(''),
  format: z.string().optional(),
});

/** The words of the command line, before they are read. */
type Given = ReadonlyMap<CommandField, unknown>;

/** @throws QianmoError of kind `usage` that names the first option that is wrong. */
function parsedVerb(table: TableCommand, given: Given): ParsedVerb {
  const { verbs, operands } = table;
  const isGiven = (wanted: string | undefined): boolean =>
    [...given].some(([{ name }, value]) => name === wanted && value !== undefined);
  const verb = verbs.find(({ entry: { when } }) => isGiven(when)) ?? verbs[0];
  const { request: schema, watched, operands: operandNames = [] } = verb.entry;
  const [request, own] = [new Map<string, unknown>(), new Map<string, unknown>()];
  const ownShape = ownFields(verb);
  for (const [field, text] of given) {
    const { name, section } = field;
    const value = valueOf(text, field);
    if (value === undefined) continue;
    const isOperand = operands.includes(field);
    if (!isOperand && name in ownShape) own.set(name, value);
    if (section !== null && section in schema.shape)
      request.set(section, { ...(request.get(section) ?? {}), [name]: value });
    else if (name in schema.shape && isOperand === operandNames.includes(name))
      request.set(name, value);
  }
  const asked = Object.fromEntries(request);
  assertParsed(schema.safeParse(asked), table, given);
  const extra = assertParsed(z.object(ownShape).safeParse(Object.fromEntries(own)), table, given);
  const {
    plugin,
    logFormat,
    metricsPort: port,
    metricsHost: host,
    format,
  } = CommonSchema.parse(extra);
  return async (context) => {
    await loadPlugins(plugin);
    if (logFormat === 'json') context.showEventsAsLines();
    const { clock, signal, print, environment, onEvent, outputColumns } = context;
    const metrics = watched !== undefined && port !== undefined ? { port, host } : undefined;
    await verb.act(asked, extra, {
      ...{ clock, signal, print },
      options: { signal, onEvent, environment, ownEnvironment: environment, metrics },
      show: (shown) => {
        print(format === 'json' ? jsonOf(shown) : textOf(shown, outputColumns));
        if ('failure' in shown) throw shown.failure;
      },
    });
  };
}

function valueOf(given: unknown, { kind }: CommandField): unknown {
  if (Array.isArray(given) && given.length === 0) return undefined;
  if (typeof given !== 'string') return given;
  const numberIn = (text: string): unknown => (text.trim() === '' ? text : Number(text));
  const items = given.split(',').flatMap((item) => item.trim() || []);
  if (kind === 'number') return numberIn(given);
  if (kind === 'numbers') return items.map(numberIn);
  return kind === 'texts' ? items : given;
}

function jsonOf(shown: Shown): string {
  if ('blocks' in shown) return JSON.stringify(shown.data, null, 2);
  return JSON.stringify(shown.json, null, typeof shown.text === 'string' ? 0 : 2);
}

function textOf(shown: Shown, columns: number): string {
  if ('blocks' in shown) return asText(shown, columns);
  const { text } = shown;
  return typeof text === 'string' ? text : text.map((each) => asText(each, columns)).join('\n\n\n');
}

function assertParsed<Value>(
  parsed: z.ZodSafeParseResult<Value>,
  { words, operands }: TableCommand,
  given: Given,
): Value {
  if (parsed.success) return parsed.data;
  const { path = [], message = '' } = parsed.error.issues[0] ?? {};
  const field = [...given.keys()].find(({ name }) => path.includes(name));
  const value = field === undefined ? undefined : given.get(field);
  const name =
    field === undefined ? '' : operands.includes(field) ? operandOf(field) : flagOf(field);
  const choices = field?.words ?? [];
  throw new QianmoError({
    kind: 'usage',
    what: `${name} cannot have this value`,
    ...placeOf(['qianmo', ...words].join(' ')),
    expected:
      choices.length > 0 ? `one of ${choices.join(', ')}` : message.replace(/^expected /, ''),
    found: typeof value === 'string' && value !== '' ? value : 'nothing',
  });
}

/** Commander's own message as a report, so that every refusal reads alike. */
function refuseClearly(command: Command, where: string, write?: (text: string) => void): void {
  command
    .helpCommand(false)
    .exitOverride((error) => {
      // The help was printed, whether or not it was requested.
      if (error.exitCode === 0 || error.code === 'commander.help') throw error;
      const message = error.message.replace(/^error: /, '').replace(/\.$/, '');
      const suggestion = /\s*\(Did you mean (?:one of )?(.+?)\?\)$/.exec(message);
      const { cure, ...place } = placeOf(where);
      throw new QianmoError({
        kind: 'usage',
        what: suggestion === null ? message : message.slice(0, suggestion.index),
        ...place,
        cure: suggestion === null ? cure : `did you mean ${suggestion[1] ?? ''}? ${cure}`,
      });
    })
    .configureOutput({
      outputError: () => undefined,
      ...(write === undefined ? {} : { writeOut: write }),
    });
  for (const each of command.commands) refuseClearly(each, `${where} ${each.name()}`, write);
}

function placeOf(where: string): { readonly where: string; readonly cure: string } {
  const lists = where === 'qianmo' ? 'the verbs' : 'arguments and options';
  return { where, cure: `\`${where} --help\` lists ${lists}` };
}
