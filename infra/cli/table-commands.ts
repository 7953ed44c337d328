/** The commands of the table of verbs, with their options: what the command line and the reference list. */

import { z } from 'zod';
import {
  fieldSettings,
  FORMAT,
  oneOf,
  texts,
  type FieldSettings,
} from '../../coordinator/runs/request-fields.js';
import { METRICS_FIELDS } from '../library/requests.js';
import { declaredVerbs, type Verb } from '../library/verb.js';

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
const PLUGIN = texts('<file> a file that defines a method or model; repeat it for several');

/** The options of an entry that are no fields of its request. */
export function ownFields({ entry, takesFormat }: Verb): Record<string, z.ZodType> {
  const { extra = {}, watched, plugins } = entry;
  return {
    ...(watched === undefined ? {} : METRICS_FIELDS),
    ...(watched === 'all' ? { logFormat: LOG_FORMAT } : {}),
    ...(takesFormat ? { format: FORMAT } : {}),
    ...schemasIn(extra),
    ...(plugins === true ? { plugin: PLUGIN.optional() } : {}),
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
  /** The fields of a section. */
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
