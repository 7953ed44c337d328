/** Starts the row servers that the config of a run asks for. */

import { startRowServer } from '../tables/row-server-process.js';
import type { RowServer } from '../tables/row-server.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { RunContext } from './call/run-context.js';
import { checkpointAddressOf } from './run-files.js';

/** Null if the tables stay in this process. The caller closes the servers. */
export async function rowServersForRun(
  { config, spec }: PreparedRun,
  { environment, clock }: RunContext,
): Promise<RowServer[] | null> {
  const { training, storage } = config;
  const serverCount = training.tableShards;
  if (serverCount === 1) return null;
  const checkpoints = { address: checkpointAddressOf(config), storage };
  const started = await Promise.allSettled(
    Array.from({ length: serverCount }, (_, server) =>
      startRowServer({
        plan: { frame: spec, training, server, serverCount },
        checkpoints,
        environment: withoutSecrets(environment),
        clock,
      }),
    ),
  );
  const servers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const failed = started.find((each) => each.status === 'rejected');
  if (failed === undefined) return servers;
  await closeRowServers(servers);
  throw failed.reason;
}

/** Row servers reach the checkpoints and nothing else: the key of signatures and the address of Redis stay here. */
function withoutSecrets(environment: RunContext['environment']): RunContext['environment'] {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => !name.startsWith('QIANMO_')),
  );
}

export async function closeRowServers(servers: readonly RowServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.close()));
}
