/** `qianmo completion`: prints a script that completes command lines in a shell. */

import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { completionScript, SHELLS, type Shell } from '../command/shell-completion.js';
import { firstOf, verb, type Verb } from '../command/verb.js';

/** @param allVerbs loads the verbs that are completed */
export function completionVerb(allVerbs: () => Promise<readonly Verb[]>): Verb {
  return verb({
    name: 'completion',
    description: 'print a script that completes command lines in a shell',
    argument: { name: '<shell>', description: 'bash, zsh or fish' },
    options: {},
    help: `
In ~/.bashrc and ~/.zshrc: source <(qianmo completion bash). In ~/.config/fish/config.fish, pipe it to source.
Example:
  qianmo completion bash`,
    run: async (operands, _options, context) => {
      context.print(completionScript(shellOf(firstOf(operands)), await allVerbs()));
    },
  });
}

function shellOf(word: string): Shell {
  const parsed = z.enum(SHELLS).safeParse(word);
  if (parsed.success) return parsed.data;
  throw new QianmoError({
    kind: 'usage',
    what: 'there is no completion for this shell',
    where: 'qianmo completion',
    expected: SHELLS.join(', '),
    found: word,
    cure: 'name one of these shells',
  });
}
