/** Reports a wrong command line in one form, whether commander or zod refused it. */

import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';

/** @param verb the verb that was refused, or `qianmo` if the verb itself is unknown. */
export function usageFailure(commanderMessage: string, verb: string): QianmoError {
  const message = commanderMessage.replace(/^error: /, '').replace(/\.$/, '');
  const suggestion = /\s*\(Did you mean (?:one of )?(.+?)\?\)$/.exec(message);
  const refusedValue = /^option '(\S+).*' argument '(.*)' is invalid\. (.*)$/s.exec(message);
  const where = verb === 'qianmo' ? 'qianmo' : `qianmo ${verb}`;
  const help =
    verb === 'qianmo'
      ? '`qianmo --help` lists the verbs'
      : `\`${where} --help\` lists arguments and options`;
  if (refusedValue !== null) {
    const [, option = '', value = '', expected = ''] = refusedValue;
    return new QianmoError({
      kind: 'usage',
      what: `${option} cannot have this value`,
      where,
      expected: expected.replace(/^Allowed choices are /, 'one of ').replace(/^expected /, ''),
      found: value === '' ? 'nothing' : value,
      cure: help,
    });
  }
  return new QianmoError({
    kind: 'usage',
    what: suggestion === null ? message : message.slice(0, suggestion.index),
    where,
    cure: suggestion === null ? help : `did you mean ${suggestion[1] ?? ''}? ${help}`,
  });
}

/**
 * Checks the options of a verb.
 *
 * @throws QianmoError of kind `usage` that names the first option that is wrong.
 */
export function parsedOptions<Schema extends z.ZodType>(
  schema: Schema,
  rawOptions: unknown,
  verb: string,
): z.output<Schema> {
  const parsed = schema.safeParse(rawOptions);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = String(issue?.path[0] ?? '');
  const option = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const value = z.record(z.string(), z.unknown()).safeParse(rawOptions).data?.[key];
  throw usageFailure(
    `option '${option}' argument '${typeof value === 'string' ? value : ''}' is invalid. ${issue?.message ?? ''}`,
    verb,
  );
}
