/**
 * The options of a bench command and its `--help`. What it measures, and how it is called, is told by the comment at the head
 * of its file, which the help repeats.
 */

import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { wrap } from '../../coordinator/reports/document/as-text.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { EXIT_CODE_BY_KIND, formatFailure, QianmoError } from '../../shared/base/errors.js';
import { benchOfModule, commandOf, withOptions } from './benches.js';

/** An option with a value, which may be left out if it has no default. */
interface ValueOption {
  /** Reads the text of the option; its message says what is expected. */
  readonly value: z.ZodType<unknown, string>;
  readonly default?: string;
  readonly about: string;
}

interface FlagOption {
  readonly type: 'boolean';
  readonly default: false;
  readonly about: string;
}

type BenchOption = ValueOption | FlagOption;
type BenchOptions = Readonly<Record<string, BenchOption>>;

type ValueOf<Option> = Option extends ValueOption
  ? z.output<Option['value']> | (Option extends { readonly default: string } ? never : undefined)
  : boolean;

type Values<Options> = { readonly [Name in keyof Options]: ValueOf<Options[Name]> };

interface WrongOption {
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
}

const COLUMNS = 100;
const NAME_COLUMNS = 24;
const PackageSchema = z.looseObject({ scripts: z.record(z.string(), z.string()) });

/**
 * The values of the options on the command line. With `--help` it prints them and ends the process with 0; an option that does
 * not exist, or a value that is not allowed, ends it as a usage error.
 *
 * @param url that of the command's own module.
 */
export function benchOptions<const Options extends BenchOptions>(
  url: string,
  options: Options,
): Values<Options> {
  const script = scriptOf(fileURLToPath(url));
  if (process.argv.slice(2).some((word) => word === '--help' || word === '-h')) {
    process.stdout.write(helpOf(script, options));
    process.exit(0);
  }
  try {
    return readValues(options);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    endAsUsageError(url, error instanceof QianmoError ? error.report : { what: error.message });
  }
}

/** Ends the process for a value that only the bench itself can tell to be wrong. */
function endAsUsageError(url: string, report: WrongOption): never {
  const { command } = scriptOf(fileURLToPath(url));
  const help = ['npm', 'run', ...withOptions(command, ['--help'])].join(' ');
  const cure = `\`${help}\` lists the options`;
  const failure = new QianmoError({ kind: 'usage', ...report, where: command, cure });
  process.stderr.write(`${formatFailure(failure)}\n`);
  process.exit(EXIT_CODE_BY_KIND.usage);
}

/** @throws Error if an option or its value is not known */
function readValues<Options extends BenchOptions>(options: Options): Values<Options> {
  const written = parseArgs({
    options: Object.fromEntries(
      Object.entries(options).map(([name, option]) => {
        const type: 'boolean' | 'string' = 'type' in option ? option.type : 'string';
        const { default: otherwise } = option;
        return [name, { type, ...(otherwise === undefined ? {} : { default: otherwise }) }];
      }),
    ),
  }).values;
  const read = Object.entries(options).map(([name, option]) => {
    const found = written[name];
    return [
      name,
      typeof found === 'string' && 'value' in option ? valueOf(name, option.value, found) : found,
    ];
  });
  // `Object.fromEntries` forgets which value belongs to which name.
  return Object.fromEntries(read) as Values<Options>;
}

function valueOf(name: string, schema: z.ZodType<unknown, string>, written: string): unknown {
  const read = schema.safeParse(written);
  if (read.success) return read.data;
  throw new QianmoError({
    kind: 'usage',
    what: `--${name} cannot have this value`,
    expected: (read.error.issues[0]?.message ?? '').replace(/^expected /, ''),
    found: written === '' ? 'nothing' : written,
  });
}

interface Script {
  /** The words after `npm run`. */
  readonly command: string;
  /** The source of the module. */
  readonly source: string;
}

/** @throws Error if neither a table of benches nor `package.json` names the module */
function scriptOf(modulePath: string): Script {
  const root = fileURLToPath(packageRoot);
  const compiled = relative(root, modulePath);
  const source = `${root}/${compiled.replace(/^dist\//, '').replace(/\.js$/, '.ts')}`;
  const bench = benchOfModule(modulePath);
  if (bench !== undefined) return { command: commandOf(bench), source };
  const { scripts } = PackageSchema.parse(
    JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')),
  );
  const found = Object.entries(scripts).find(([, script]) => script.endsWith(` ${compiled}`));
  if (found === undefined) throw new Error(`no command runs ${compiled}`);
  return { command: found[0], source };
}

function helpOf(script: Script, options: BenchOptions): string {
  const { paragraphs, examples } = headOf(readFileSync(script.source, 'utf8'));
  const lines = Object.entries(options).map(([name, option]) => {
    const words = `  --${name}${'value' in option ? ' VALUE' : ''}`;
    const { default: otherwise } = option;
    const told = typeof otherwise === 'string' ? ` [${shown(otherwise)}]` : '';
    const gap = words.length < NAME_COLUMNS ? '' : `\n${' '.repeat(NAME_COLUMNS)}`;
    return `${words.padEnd(NAME_COLUMNS)}${gap}${option.about}${told}`;
  });
  return [
    ...paragraphs.map((text) => wrap(text, COLUMNS).replace(/\n {2}/g, '\n')),
    ['Options:', ...lines, `${'  --help'.padEnd(NAME_COLUMNS)}prints this`].join('\n'),
    ['Examples:', ...(examples.length === 0 ? [`npm run ${script.command}`] : examples)].join(
      '\n  ',
    ),
    '',
  ].join('\n\n');
}

/** Paths below the checkout as they are from there. */
function shown(value: string): string {
  const root = fileURLToPath(packageRoot);
  const path = value.startsWith(root) ? value.slice(root.length) : value;
  return path === '' ? 'none' : path;
}

/** The first comment of a source: its text, and the lines of commands. */
function headOf(text: string) {
  const [, comment = ''] = /^\/\*\*(.*?)\*\//s.exec(text) ?? [];
  const lines = comment.split('\n').map((line) => line.replace(/^\s*\* ?/, '').trimEnd());
  const isExample = (line: string): boolean => /^ +npm run /.test(line);
  const paragraphs = lines
    .map((line) => (isExample(line) ? '' : line.trim()))
    .join('\n')
    .split(/\n{2,}/)
    .map((paragraph) => paragraph.trim().replace(/\n/g, ' '));
  return {
    paragraphs: paragraphs.filter((paragraph) => paragraph !== ''),
    examples: lines.filter(isExample).map((line) => line.trim()),
  };
}
