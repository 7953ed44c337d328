/** `qianmo dashboard`: serves pages about runs and their queue until it is stopped. */

import { once } from 'node:events';
import { serveDashboard } from '../../library/index.js';
import { format, prefix } from '../command/shared-options.js';
import { flagOption, integerValue, textValue, valueOption, verb } from '../command/verb.js';

export const dashboardVerb = verb({
  name: 'dashboard',
  description: 'serve pages about runs, their workers and their queue',
  options: {
    runs: valueOption(
      '--runs <places>',
      'folders and s3:// prefixes below which runs have their outputs, separated by commas',
      textValue.optional(),
    ),
    redis: valueOption('--redis <url>', 'the Redis server of the queue', textValue.optional(), {
      variable: 'QIANMO_REDIS_URL',
    }),
    prefix,
    servers: valueOption(
      '--servers <addresses>',
      'where ranking servers offer their metrics (qianmo serve --metrics-port), separated by commas',
      textValue.optional(),
    ),
    rankings: valueOption(
      '--rankings <addresses>',
      'ranking servers that explore (qianmo serve), to ask about single adgroups, separated by commas',
      textValue.optional(),
    ),
    rankingsTokenFile: valueOption(
      '--rankings-token-file <file>',
      'file with the token that those servers demand; also the variable QIANMO_SERVE_TOKEN',
      textValue.optional(),
    ),
    host: valueOption(
      '--host <host>',
      'the address to listen on; one beyond this machine demands a token',
      textValue,
      { defaultText: '127.0.0.1' },
    ),
    port: valueOption('--port <port>', 'port, 0 for any free one', integerValue(0, 65_535), {
      defaultText: '3000',
    }),
    hostAllow: valueOption(
      '--host-allow <names>',
      'names and addresses, without the port, under which it answers beside those of the loopback address, separated by commas',
      textValue.optional(),
    ),
    tokenFile: valueOption(
      '--token-file <file>',
      'file with the token that requests must bear; also the variable QIANMO_DASHBOARD_TOKEN',
      textValue.optional(),
    ),
    allowControl: flagOption('--allow-control', 'let pages pause, resume and cancel runs'),
    format,
  },
  help: `
Pages are made from the records of runs (--runs), their queue (--redis), ranking servers (--servers), or several of them.
They change nothing unless --allow-control is given.
Examples:
  qianmo dashboard --runs runs
  qianmo dashboard --runs runs,s3://models/runs --redis redis://127.0.0.1:6379 --port 3000
  qianmo dashboard --servers http://127.0.0.1:9464
  qianmo dashboard --runs runs --rankings http://127.0.0.1:8080`,
  run: async (_operands, { format, ...options }, context) => {
    const { runs = '', servers = '', rankings = '', ...request } = options;
    const dashboard = await serveDashboard(
      {
        ...request,
        ...{ runs: listed(runs), servers: listed(servers), rankings: listed(rankings) },
      },
      { environment: context.environment },
    );
    try {
      context.print(
        format === 'json'
          ? JSON.stringify({ url: dashboard.url })
          : `dashboard: ${dashboard.url} (Ctrl-C stops it)`,
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
    } finally {
      await dashboard.close();
    }
  },
});

/** The items of a list with commas. */
function listed(text: string): string[] {
  return text.split(',').flatMap((item) => item.trim() || []);
}
