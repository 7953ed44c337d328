/** The dashboard with everything wired to this machine. */

import type { Dashboard } from '../../coordinator/dashboard/serve-dashboard.js';
import type { Surroundings } from '../../coordinator/runs/run-handle.js';
import { servedDashboard } from '../../coordinator/runs/cancel-run.js';
import { s3OptionsIn } from '../../coordinator/runs/places.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';
import { accessToken, requireTokenBeyondLoopback } from './access-token.js';

const TOKEN_VARIABLE = 'QIANMO_DASHBOARD_TOKEN';
const RANKINGS_TOKEN_VARIABLE = 'QIANMO_SERVE_TOKEN';

export async function openDashboard(
  request: RequestOf<'board'>,
  surroundings: Surroundings,
): Promise<Dashboard> {
  const { redis = null, runs: roots, hostAllow = '', tokenFile, ...others } = request;
  const { rankings: addresses, rankingsTokenFile, ...place } = others;
  const { environment } = surroundings;
  const token = await accessToken({ file: tokenFile, variable: TOKEN_VARIABLE, environment });
  requireTokenBeyondLoopback(place.host, token, TOKEN_VARIABLE);
  const hostsAllowed = hostAllow.split(',').flatMap((name) => name.trim() || []);
  const rankings = {
    addresses,
    token: await accessToken({
      ...{ file: rankingsTokenFile, variable: RANKINGS_TOKEN_VARIABLE, environment },
    }),
  };
  const call = { ...place, redis, roots, hostsAllowed, token, rankings };
  return servedDashboard({ ...call, s3: s3OptionsIn(environment) }, surroundings);
}
