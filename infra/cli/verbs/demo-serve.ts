/** `qianmo demo-serve`: trains, exports, serves, takes feedback and refreshes, on the data that ships with the package. */

import { interruptedAs } from '../../../coordinator/runs/call/interruption.js';
import { runClosedLoop } from '../../library/demo/closed-loop.js';
import { callOptionsOf } from '../command/command-context.js';
import { textValue, valueOption, verb } from '../command/verb.js';

export const demoServeVerb = verb({
  name: 'demo-serve',
  description: 'train, export, serve, take feedback and refresh, on the MovieLens example',
  options: {
    out: valueOption('--out <folder>', 'folder for everything the demo makes', textValue, {
      defaultText: 'runs/movielens-serve',
    }),
  },
  help: `
The last hundredth of the ratings comes later: as requests to the server, as feedback, and as new logs.
Example:
  qianmo demo-serve --out runs/loop`,
  run: async (_operands, { out }, context) => {
    const { clock } = context;
    const startedMs = clock.monotonicMs();
    const print = (text: string): void => context.print(text);
    await interruptedAs(
      runClosedLoop({ out, print, clock, options: callOptionsOf(context) }),
      () => ({
        what: 'the demo was stopped',
        where: out,
        cure: 'remove the folder and run the same command again',
      }),
    );
    context.print(`\nDone in ${Math.round((clock.monotonicMs() - startedMs) / 1000)} s.`);
  },
});
