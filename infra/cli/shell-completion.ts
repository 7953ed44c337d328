/** Scripts that complete the verbs, options and words of the command line in a shell. */

import { flagOf, tableCommands, type CommandField, type TableCommand } from './table-commands.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;

export function completionScript(shell: (typeof SHELLS)[number]): string {
  if (shell === 'fish') return fishScript(tableCommands());
  const script = bashScript(tableCommands());
  return shell === 'bash' ? script : `autoload -Uz bashcompinit\nbashcompinit\n${script}`;
}

/** Where nothing is known, as for a path, bash completes names of files. */
function bashScript(commands: readonly TableCommand[]): string {
  const names = [...new Set(commands.map(({ words: [name = ''] }) => name))];
  const below = (name: string): readonly TableCommand[] =>
    commands.filter(({ words }) => words[0] === name);
  const afterOptions = commands.flatMap(({ words: [name = ''], options }) =>
    options
      .filter(({ words }) => words.length > 0)
      .map((field) => `    "${name} ${flagOf(field)}") words="${field.words.join(' ')}" ;;`),
  );
  const ofVerbs = names.flatMap((name) => {
    const flags = new Set(below(name).flatMap(({ options }) => options.map(flagOf)));
    const actions = below(name).flatMap(({ words: [, action] }) => action ?? []);
    const first = `[ "$COMP_CWORD" -eq 2 ] && words="${actions.join(' ')}"; `;
    return [
      `    ${name}) ${actions.length === 0 ? '' : first}[[ "$current" == -* ]] && words="${[...flags, '--help'].join(' ')}" ;;`,
    ];
  });
  return [
    '_qianmo() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words=""',
    '  COMPREPLY=()',
    `  if [ "$COMP_CWORD" -eq 1 ]; then words="${names.join(' ')} --help"`,
    '  else',
    '    case "${COMP_WORDS[1]} $previous" in',
    ...new Set(afterOptions.map((line) => `  ${line}`)),
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

function fishScript(commands: readonly TableCommand[]): string {
  return commands
    .flatMap(({ words: [name = '', action], verbs, options }) => {
      const about = quoted(verbs[0].entry.about);
      const isGiven = `'__fish_seen_subcommand_from ${action ?? name}'`;
      return [
        action === undefined
          ? `complete -c qianmo -n __fish_use_subcommand -a ${name} -d ${about}`
          : `complete -c qianmo -n '__fish_seen_subcommand_from ${name}' -a ${action} -d ${about}`,
        ...(action === undefined ? [] : [`complete -c qianmo -n __fish_use_subcommand -a ${name}`]),
        ...options.map((option) => fishOption(isGiven, option)),
      ];
    })
    .join('\n');
}

function fishOption(isGiven: string, field: CommandField): string {
  const { kind, words, description } = field;
  return [
    `complete -c qianmo -n ${isGiven} -l ${flagOf(field).slice(2)}`,
    ...(kind === 'flag' ? [] : ['-r']),
    ...(words.length === 0 ? [] : [`-f -a ${quoted(words.join(' '))}`]),
    `-d ${quoted(description)}`,
  ].join(' ');
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
