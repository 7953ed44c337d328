/** The request that serves the dashboard. */

import { z } from 'zod';
import { QUEUE_PREFIX_DEFAULT } from './requests.js';

const text = z.string().min(1, 'expected a value');

const SERVERS_MAX = 64;

/** `/metrics` is added to an address without a path. */
const metricsAddress = z
  .url({ protocol: /^https?$/, error: 'expected an address such as http://127.0.0.1:9464' })
  .transform((address) => {
    const url = new URL(address);
    if (url.pathname === '/') url.pathname = '/metrics';
    return url.href;
  });

const rankingAddress = z.url({
  protocol: /^https?$/,
  error: 'expected an address such as http://127.0.0.1:8080',
});

export const BoardRequestSchema = z.strictObject({
  /** The Redis server of the queue; absent for records alone. */
  redis: text.optional(),
  prefix: text.default(QUEUE_PREFIX_DEFAULT),
  /** Folders and `s3://` prefixes below which runs have their outputs. */
  runs: z.array(text).default([]),
  /** Addresses of the metrics of ranking servers, as they say when they start. */
  servers: z.array(metricsAddress).max(SERVERS_MAX).default([]),
  /** Addresses of ranking servers that explore, which are asked about single adgroups. */
  rankings: z.array(rankingAddress).max(SERVERS_MAX).default([]),
  /** A file with the token that those servers demand; also the variable QIANMO_SERVE_TOKEN. */
  rankingsTokenFile: text.optional(),
  /** The address to listen on. One beyond this machine demands a token. */
  host: text.default('127.0.0.1'),
  /** 0 selects a free port. */
  port: z.int().min(0).max(65_535).default(3000),
  /** Names beside those of the loopback address under which the dashboard answers, separated by commas. */
  hostAllow: text.optional(),
  /** A file with the token that requests must bear; also the variable QIANMO_DASHBOARD_TOKEN. */
  tokenFile: text.optional(),
  /** Lets the pages pause, resume and cancel runs. */
  allowControl: z.boolean().default(false),
});

export type BoardRequest = z.input<typeof BoardRequestSchema>;
