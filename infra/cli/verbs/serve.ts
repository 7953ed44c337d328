/** `qianmo serve`: answers ranking requests from a bundle until it is stopped. */

import { once } from 'node:events';
import { z } from 'zod';
import { letEngineGiveWay } from '../../../worker/serving/processes/engine-threads.js';
import {
  CACHE_GIB_DEFAULT,
  CACHE_GIB_MAX,
  CANARY_SHARE_DEFAULT,
  DEADLINE_MS_DEFAULT,
  DEADLINE_MS_MAX,
  EXPLAINED_DEFAULT,
  EXPLAINED_MAX,
  POLL_SECONDS_DEFAULT,
  POLL_SECONDS_MAX,
  PROCESSES_MAX,
  QUEUED_REQUESTS_DEFAULT,
  QUEUED_REQUESTS_MAX,
} from '../../../worker/serving/server/server-limits.js';
import { serveRankings } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format } from '../command/shared-options.js';
import { integerValue, textValue, valueOption, verb } from '../command/verb.js';
import { metricsOptions } from '../command/watching-options.js';

export const serveVerb = verb({
  name: 'serve',
  description: 'answer ranking requests from a bundle, and follow its label',
  options: {
    bundle: valueOption(
      '--bundle <address>',
      'ADDRESS of bundles or ADDRESS@LABEL; latest unless a label or digest is given',
      textValue,
      { isRequired: true },
    ),
    canary: valueOption(
      '--canary <address>',
      'ADDRESS@LABEL of a bundle that answers a share of the requests',
      textValue.optional(),
    ),
    canaryShare: valueOption(
      '--canary-share <share>',
      'that share, from 0 to 1',
      textValue.transform(Number).pipe(z.number().min(0).max(1)),
      { defaultText: String(CANARY_SHARE_DEFAULT) },
    ),
    host: valueOption(
      '--host <host>',
      'the address to listen on; one beyond this machine demands a token',
      textValue,
      { defaultText: '127.0.0.1' },
    ),
    port: valueOption('--port <port>', 'port, 0 for any free one', integerValue(0, 65_535), {
      defaultText: '8080',
    }),
    tokenFile: valueOption(
      '--token-file <file>',
      'file with the token that requests must bear; also the variable QIANMO_SERVE_TOKEN',
      textValue.optional(),
    ),
    processes: valueOption(
      '--processes <number>',
      'processes that answer on the port; one for each core that is free',
      integerValue(1, PROCESSES_MAX),
      { defaultText: '1' },
    ),
    scorer: valueOption(
      '--scorer <name>',
      'auto, or graph: the captured graph, for models that the kernel does not cover',
      z.enum(['auto', 'graph']),
      { defaultText: 'auto' },
    ),
    pollSeconds: valueOption(
      '--poll-seconds <seconds>',
      'seconds between two looks at the label',
      textValue.transform(Number).pipe(z.number().positive().max(POLL_SECONDS_MAX)),
      { defaultText: String(POLL_SECONDS_DEFAULT) },
    ),
    cache: valueOption(
      '--cache <folder>',
      'where the files of bundles from S3 are kept; below the cache of the user if absent',
      textValue.optional(),
    ),
    cacheGib: valueOption(
      '--cache-gib <size>',
      'the most that they may take together, in GiB',
      textValue.transform(Number).pipe(z.number().positive().max(CACHE_GIB_MAX)),
      { defaultText: String(CACHE_GIB_DEFAULT) },
    ),
    warmUp: valueOption(
      '--warm-up <file>',
      'requests of /v1/rank in JSON, one on each line, that a bundle answers before it is served',
      textValue.optional(),
    ),
    queue: valueOption(
      '--queue <requests>',
      'requests that may wait for the scorer',
      integerValue(1, QUEUED_REQUESTS_MAX),
      { defaultText: String(QUEUED_REQUESTS_DEFAULT) },
    ),
    deadlineMs: valueOption(
      '--deadline-ms <ms>',
      'the longest that a request may wait',
      integerValue(1, DEADLINE_MS_MAX),
      { defaultText: String(DEADLINE_MS_DEFAULT) },
    ),
    explainMax: valueOption(
      '--explain-max <candidates>',
      'candidates of a request whose scores are explained, if it asks for it',
      integerValue(0, EXPLAINED_MAX),
      { defaultText: String(EXPLAINED_DEFAULT) },
    ),
    explore: valueOption(
      '--explore <policy.yaml>',
      'explore: a file with a section exploration, as run configs have it; needs --state',
      textValue.optional(),
    ),
    state: valueOption(
      '--state <folder>',
      'folder of this server alone: takes /v1/adapt, and keeps evidence and the log of decisions',
      textValue.optional(),
    ),
    redis: valueOption(
      '--redis <url>',
      'evidence of --explore in Redis, which several servers share',
      textValue.optional(),
    ),
    ...metricsOptions,
    format,
  },
  help: `
A signal to stop lets it answer the requests under way.
Examples:
  qianmo serve --bundle runs/shop/bundles
  qianmo serve --bundle s3://models/shop@stable --port 9000 --token-file token.txt
  qianmo serve --bundle runs/shop/bundles@stable --canary runs/shop/bundles@canary --canary-share 0.05
  qianmo serve --bundle runs/shop/bundles --explore policy.yaml --state runs/shop/state`,
  run: async (_operands, { format, ...request }, context) => {
    letEngineGiveWay();
    const service = await serveRankings(request, callOptionsOf(context));
    try {
      const { url, bundle } = service;
      context.print(
        format === 'json'
          ? JSON.stringify({ url, bundle })
          : `rankings: ${url}/v1/rank (Ctrl-C stops it)`,
      );
      if (!context.signal.aborted) await once(context.signal, 'abort');
    } finally {
      await service.close();
    }
  },
});
