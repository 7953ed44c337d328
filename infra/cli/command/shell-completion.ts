/** Scripts that complete the verbs, options and words of the command line in a shell. */

import type { Option } from 'commander';
import type { Verb } from './verb.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, verbs: readonly Verb[]): string {
  if (shell === 'fish') return fishScript(verbs);
  return shell === 'bash'
    ? bashScript(verbs)
    : `autoload -Uz bashcompinit\nbashcompinit\n${bashScript(verbs)}`;
}

/** Where nothing is known, as for a path, bash completes names of files. */
function bashScript(verbs: readonly Verb[]): string {
  const names = verbs.map(({ name }) => name).join(' ');
  const afterOptions = verbs.flatMap(({ name, options }) =>
    options.flatMap((option) => {
      const choices = option.argChoices ?? [];
      return choices.length === 0
        ? []
        : [`    "${name} ${longOf(option)}") words="${choices.join(' ')}" ;;`];
    }),
  );
  const ofVerbs = verbs.map(
    ({ name, options }) =>
      `    ${name}) [[ "$current" == -* ]] && words="${[...options.map(longOf), '--help'].join(' ')}" ;;`,
  );
  return [
    '_qianmo() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words=""',
    '  COMPREPLY=()',
    `  if [ "$COMP_CWORD" -eq 1 ]; then words="${names} --help"`,
    '  else',
    '    case "${COMP_WORDS[1]} $previous" in',
    ...afterOptions.map((line) => `  ${line}`),
    '      *) case "${COMP_WORDS[1]}" in',
    ...ofVerbs.map((line) => `    ${line}`),
    '      esac ;;',
    '    esac',
    '  fi',
    '  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")',
    '}',
    'complete -o default -F _qianmo qianmo',
  ].join('\n');
}

function fishScript(verbs: readonly Verb[]): string {
  return verbs
    .flatMap(({ name, description, options }) => [
      `complete -c qianmo -n __fish_use_subcommand -a ${name} -d ${quoted(description)}`,
      ...options.map((option) => fishOption(name, option)),
    ])
    .join('\n');
}

function fishOption(verb: string, option: Option): string {
  const takesValue = option.required || option.optional;
  const choices = option.argChoices ?? [];
  return [
    `complete -c qianmo -n '__fish_seen_subcommand_from ${verb}' -l ${longOf(option).slice(2)}`,
    ...(takesValue ? ['-r'] : []),
    ...(choices.length === 0 ? [] : [`-f -a ${quoted(choices.join(' '))}`]),
    `-d ${quoted(option.description)}`,
  ].join(' ');
}

function longOf({ long, flags }: Option): string {
  if (long === undefined) throw new Error(`${flags} has no long name`);
  return long;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
