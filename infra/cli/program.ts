/** The command line of the table of verbs. Commander parses it, and the schemas of the table check it. */

import '../library/index.js';
import './own-verbs.js';
import { Command, Option, CommanderError } from 'commander';
import { z } from 'zod';
import { asText } from '../../coordinator/reports/document/as-text.js';
import { QianmoError, formatFailure, errorOf } from '../../shared/base/errors.js';
import { loadPlugins } from '../../shared/plugins/load-plugins.js';
import { type Shown, declaredVerbs, type Verb } from '../library/verb.js';
import { printableText } from '../../shared/base/printable-text.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import {
  describeField,
  fieldSettings,
  FORMAT,
  oneOf,
  texts,
  type FieldSettings,
} from '../../coordinator/runs/request-fields.js';
import { METRICS_FIELDS } from '../library/requests.js';
import { type Clock, systemClock } from '../../shared/base/clock.js';
import { boundedRate } from '../../shared/events/event-log.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import { type StampedEventSink, noticeEvent, sentenceOf } from '../../shared/events/run-events.js';
import { createTerminalSink } from '../../shared/events/terminal-sink.js';
import type { CallOptions } from '../../coordinator/runs/run-handle.js';
import { askOnTerminal, type CommandInput } from './ask-on-terminal.js';

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
Example, from a log to a served model:
  qianmo start clicks.csv

Further verbs: ${tableCommands()
        .filter((each) => placeInHelp(each) === LISTED.length)
        .map((each) => each.words.join(' '))
        .join(', ')}.
\`qianmo help VERB\` describes each verb.

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 environment missing, 4 interrupted and resumable,
5 cancelled and resumable, 6 another coordinator has the run.`,
    );
  const commands = tableCommands().sort((a, b) => placeInHelp(a) - placeInHelp(b));
  const named = commands.filter((each) => each.words[0] === words[0]);
  for (const each of named.length === 0 ? commands : named)
    parentOf(each, program).addCommand(commandOf(each, carryOut), {
      hidden: placeInHelp(each) === LISTED.length,
    });
  for (const { name, heading } of LISTED)
    program.commands.find((each) => each.name() === name)?.helpGroup(`${heading}:`);
  refuseClearly(program, 'qianmo', write);
  return program;
}

/** The verbs that the help lists. */
const LISTED = Object.entries({
  Start: ['start', 'init', 'check', 'demo'],
  Train: ['prepare', 'train', 'evaluate', 'auto'],
  Serve: ['export', 'serve', 'refresh', 'bundle'],
  Operate: ['worker', 'runs', 'status', 'cancel', 'dashboard'],
  Lab: ['sweep', 'compare', 'ope'],
}).flatMap(([heading, names]) => names.map((name) => ({ name, heading })));

/** That of a verb that is not listed is behind all others. */
function placeInHelp({ words: [name] }: TableCommand): number {
  const found = LISTED.findIndex((listed) => listed.name === name);
  return found < 0 ? LISTED.length : found;
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
  const flags = kind === 'flag' ? flagsOf(field) : `${flagsOf(field)} <${word}>`;
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
  quiet: z.boolean().default(false),
  verbose: z.boolean().default(false),
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
    quiet,
    verbose,
    metricsPort: port,
    metricsHost: host,
    format,
  } = CommonSchema.parse(extra);
  return async (context) => {
    const verbosity = quiet ? 'quiet' : verbose ? 'verbose' : 'normal';
    context.setDiagnostics(verbosity, { asLines: logFormat === 'json' });
    await loadPlugins(plugin);
    const { clock, signal, print, environment, onEvent, outputColumns } = context;
    const metrics = watched !== undefined && port !== undefined ? { port, host } : undefined;
    const ask = format === 'json' ? undefined : context.ask();
    await verb.act(asked, extra, {
      ...{ clock, signal, print },
      options: { signal, onEvent, environment, ownEnvironment: environment, metrics, ask },
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
  throw errorOf('usage', `${name} cannot have this value`, {
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
      throw errorOf('usage', suggestion === null ? message : message.slice(0, suggestion.index), {
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

const EXIT_CODE_USAGE = 2;
const EXIT_CODE_BUG = 70;

interface CommandSurroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Receives results, and nothing else. */
  readonly output: CommandStream;
  readonly diagnostics: CommandStream;
  /** Opens standard input, which a command reads only to ask. */
  readonly input?: () => CommandInput;
}

/** `help VERB` is `VERB --help`, and `--version` the verb. */
function usualWords([first = '', ...rest]: readonly string[]): readonly string[] {
  if (first === 'help') return [...rest, '--help'];
  if (first === '--version' && rest.length === 0) return ['version'];
  return first === '' ? [] : [first, ...rest];
}

/** @returns the exit code of the process */
export async function runCommand(
  given: readonly string[],
  surroundings: CommandSurroundings,
): Promise<number> {
  const words = usualWords(given);
  const { environment, output, diagnostics, input } = surroundings;
  const context = openCommandContext(environment, output, diagnostics, input);
  try {
    const program = buildProgram(
      words,
      (parsed) => parsed(context),
      (text) => void output.write(text),
    );
    await program.parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    context.endProgress();
    return report(error, diagnostics, context.verbosity());
  } finally {
    context.close();
  }
}

function report(error: unknown, diagnostics: CommandStream, verbosity: Verbosity): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_CODE_USAGE;
  const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
  const traces = printableText(tracesOf(error).join('\ncaused by: '));
  if (failure !== null) {
    const details = verbosity === 'verbose' ? `${traces}\n` : '';
    diagnostics.write(`${formatFailure(failure)}\n${details}`);
    return failure.exitCode;
  }
  diagnostics.write(`error: this is a bug in qianmo, please report it\n${traces}\n`);
  return EXIT_CODE_BUG;
}

/** Returns the stack traces of the error and of its causes, the outermost first. */
function tracesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)];
  const causes = error.cause === undefined ? [] : tracesOf(error.cause);
  return [error.stack ?? error.message, ...causes];
}

export interface TableCommand {
  /** The words after `qianmo`. */
  readonly words: readonly string[];
  /** The first one acts, unless an option selects another. */
  readonly verbs: readonly [Verb, ...Verb[]];
  readonly operands: readonly CommandField[];
  readonly options: readonly CommandField[];
}

/** A field of a request, or an option of the command alone. */
export interface CommandField extends ShownField {
  readonly name: string;
  /** The section of the request that holds it. */
  readonly section: string | null;
}

export function tableCommands(): TableCommand[] {
  const byWords = new Map<string, [Verb, ...Verb[]]>();
  for (const verb of declaredVerbs) {
    const { command = verb.name } = verb.entry;
    if (command === null) continue;
    const known = byWords.get(command);
    if (known === undefined) byWords.set(command, [verb]);
    else known.push(verb);
  }
  return [...byWords].map(([words, verbs]) => {
    const { request, operands = [] } = verbs[0].entry;
    const fields = fieldsOf(request.shape);
    const options = [
      ...fields.filter(({ name }) => !operands.includes(name)),
      ...verbs.flatMap((verb) => fieldsOf(ownFields(verb))),
    ];
    return {
      ...{ words: words.split(' '), verbs },
      operands: operands.flatMap((name) => fields.filter((field) => field.name === name)),
      // A later one takes the place of an earlier one.
      options: [...new Map(options.map((field) => [field.name, field])).values()],
    };
  });
}

const LOG_FORMAT = oneOf(
  ['text', 'json'],
  '<format> how events are written to standard error: as sentences, or one JSON object per line',
).default('text');
const QUIET_ABOUT = 'print only results, warnings and errors, without progress';
const VERBOSE_ABOUT = 'print details too, and the stack traces and causes of an error';
const VERBOSITY = {
  quiet: describeField(z.boolean(), QUIET_ABOUT, { conflicts: 'verbose' }).optional(),
  verbose: describeField(z.boolean(), VERBOSE_ABOUT).optional(),
};
const PLUGIN = texts('<file> a file that defines a method or model; repeat it for several');

/** The options of an entry that are no fields of its request. */
function ownFields({ entry, takesFormat }: Verb): Record<string, z.ZodType> {
  const { extra = {}, watched, plugins } = entry;
  return {
    ...(watched === undefined ? {} : METRICS_FIELDS),
    ...(watched === 'all' ? { logFormat: LOG_FORMAT } : {}),
    ...(takesFormat ? { format: FORMAT } : {}),
    ...schemasIn(extra),
    ...(plugins === true ? { plugin: PLUGIN.optional() } : {}),
    ...VERBOSITY,
  };
}

/** Fields of a section are taken out of it. */
function fieldsOf(shape: z.core.$ZodLooseShape, section: string | null = null): CommandField[] {
  return Object.entries(schemasIn(shape)).flatMap(([name, schema]) => {
    const shown = shownField(schema);
    return shown.kind === 'section' ? fieldsOf(shown.fields, name) : [{ name, section, ...shown }];
  });
}

function schemasIn(shape: z.core.$ZodLooseShape): Record<string, z.ZodType> {
  const found = Object.entries(shape).flatMap(([name, schema]) =>
    schema instanceof z.ZodType ? [[name, schema] as const] : [],
  );
  return Object.fromEntries(found);
}

/** The letters of the options that are used most. */
const LETTERS: Readonly<Record<string, string>> = {
  ...{ format: 'f', out: 'o', port: 'p', resume: 'r', workers: 'w' },
  ...{ quiet: 'q', verbose: 'v' },
};

/** `-f, --format`, or the flag alone. */
export function flagsOf(field: CommandField): string {
  const letter = LETTERS[field.name];
  return letter === undefined ? flagOf(field) : `-${letter}, ${flagOf(field)}`;
}

/** `--log-format` for `logFormat`. */
export function flagOf({ name, option = name }: CommandField): string {
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `<run.yaml>` for an operand that is required, `[folder...]` for several that are not. */
export function operandOf({ kind, word, isRequired }: CommandField): string {
  const name = kind === 'texts' ? `${word}...` : word;
  return isRequired ? `<${name}>` : `[${name}]`;
}

/** A field as the command line and the reference show it. */
interface ShownField extends FieldSettings {
  readonly kind: 'flag' | 'number' | 'numbers' | 'text' | 'texts' | 'section';
  /** Stands for the value, without brackets. */
  readonly word: string;
  readonly description: string;
  readonly words: readonly string[];
  readonly isRequired: boolean;
  /** Absent without a default. */
  readonly default?: unknown;
  readonly fields: z.core.$ZodLooseShape;
}

function shownField(schema: z.ZodType): ShownField {
  let [inner, fallback, isRequired] = [schema, undefined as unknown, true];
  while (
    inner instanceof z.ZodOptional ||
    inner instanceof z.ZodDefault ||
    inner instanceof z.ZodPrefault
  ) {
    isRequired = false;
    if (!(inner instanceof z.ZodOptional)) fallback = inner.def.defaultValue;
    const next: unknown = inner.unwrap();
    if (!(next instanceof z.ZodType)) break;
    inner = next;
  }
  const [, word = 'value', description = ''] =
    /^(?:<([^>]+)> )?([^]*)$/.exec(inner.description ?? '') ?? [];
  return {
    ...fieldSettings.get(inner),
    ...{ kind: kindOf(inner), word, description, isRequired },
    ...(fallback === undefined ? {} : { default: fallback }),
    words: inner instanceof z.ZodEnum ? inner.options.map(String) : [],
    fields: inner instanceof z.ZodObject ? inner.shape : {},
  };
}

function kindOf(schema: z.ZodType): ShownField['kind'] {
  if (schema instanceof z.ZodBoolean) return 'flag';
  if (schema instanceof z.ZodNumber) return 'number';
  if (schema instanceof z.ZodArray)
    return schema.element instanceof z.ZodNumber ? 'numbers' : 'texts';
  return schema instanceof z.ZodObject ? 'section' : 'text';
}

interface CommandContext {
  readonly clock: Clock;
  /** The variables of the process. */
  readonly environment: Record<string, string | undefined>;
  /** Writes results, and nothing else, to standard output. */
  readonly print: (text: string) => void;
  readonly outputColumns: number;
  /** Returns what asks a person; undefined unless input and output are terminals. */
  readonly ask: () => CallOptions['ask'];
  /** Shows events on standard error. */
  readonly onEvent: StampedEventSink;
  /** Aborts at the first Ctrl-C, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal;
  /** Sets what is written to standard error from now on. Lines of JSON always include details. */
  setDiagnostics(verbosity: Verbosity, form: { readonly asLines: boolean }): void;
  verbosity(): Verbosity;
  /** Ends the progress line, so that the next output starts on a new line. */
  endProgress(): void;
  /** Ends the progress line and removes the signal handlers. */
  close(): void;
}

/** Events on standard error: warnings; with progress and notices; with details as well. */
type Verbosity = 'quiet' | 'normal' | 'verbose';

/** The part of a stream of the process that a command uses. */
interface CommandStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const OUTPUT_COLUMNS_DEFAULT = 100;
/** The signals that stop a command. SIGHUP comes from a terminal that is closed. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const EXIT_CODE_KILLED_TWICE = 130;
/** npm forwards a Ctrl-C that the terminal has already delivered: both count as one. */
const SAME_SIGNAL_MS_MAX = 300;

/** A terminal that has no size says 0. */
function knownColumns({ isTTY = false, columns = 0 }: CommandStream): number | null {
  return isTTY && columns > 0 ? columns : null;
}

export function openCommandContext(
  environment: Record<string, string | undefined>,
  output: CommandStream,
  diagnostics: CommandStream,
  input?: () => CommandInput,
): CommandContext {
  const abort = new AbortController();
  const terminalAt = (verbosity: Verbosity) =>
    createTerminalSink({
      stream: diagnostics,
      isTTY: diagnostics.isTTY ?? false,
      clock: systemClock,
      showsDetails: verbosity === 'verbose',
    });
  let verbosity: Verbosity = 'normal';
  let terminal = terminalAt(verbosity);
  let show: StampedEventSink = terminal;
  let firstSignalMs: number | null = null;
  // The second signal ends the process at once, unless it comes from a terminal that is closed.
  const interrupt = (signal: NodeJS.Signals): void => {
    const nowMs = systemClock.monotonicMs();
    if (firstSignalMs !== null && signal === 'SIGHUP') return;
    if (firstSignalMs !== null && nowMs - firstSignalMs <= SAME_SIGNAL_MS_MAX) return;
    if (firstSignalMs !== null) process.exit(EXIT_CODE_KILLED_TWICE);
    firstSignalMs = nowMs;
    show({
      ...noticeEvent('stop-requested', 'stopping; once more to stop at once'),
      epochMs: systemClock.epochMs(),
    });
    abort.abort(
      new QianmoError({ kind: 'interrupted', what: 'stopped before the work was complete' }),
    );
  };
  for (const signal of STOP_SIGNALS) process.on(signal, interrupt);
  return {
    clock: systemClock,
    environment,
    print: (text) => {
      terminal.end();
      output.write(`${printableText(text)}\n`);
    },
    outputColumns: knownColumns(output) ?? OUTPUT_COLUMNS_DEFAULT,
    ask: () => {
      if (input === undefined || output.isTTY !== true) return undefined;
      return askOnTerminal(input(), (text) => {
        terminal.end();
        output.write(printableText(text));
      });
    },
    onEvent: (event) => show(event),
    verbosity: () => verbosity,
    setDiagnostics: (wanted, { asLines }) => {
      verbosity = wanted;
      terminal = terminalAt(verbosity);
      const writeLine: StampedEventSink = (event) => diagnostics.write(`${encodeEvent(event)}\n`);
      const all = asLines ? writeLine : terminal;
      const sink = asLines || verbosity === 'verbose' ? boundedRate(systemClock, all) : all;
      show = (event) => {
        if (verbosity !== 'quiet' || sentenceOf(event).level === 'warning') sink(event);
      };
    },
    signal: abort.signal,
    endProgress: () => terminal.end(),
    close: () => {
      terminal.end();
      for (const signal of STOP_SIGNALS) process.off(signal, interrupt);
    },
  };
}
