/** A container of an unpacked image, run by runc as a cluster would: no rights, a read-only root, a tmpfs and a volume. */

import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { run, startProgram, type RunningProgram } from '../programs.js';

const ConfigSchema = z.looseObject({
  process: z.looseObject({ args: z.array(z.string()), env: z.array(z.string()) }),
  linux: z.looseObject({ namespaces: z.array(z.looseObject({ type: z.string() })) }),
  mounts: z.array(z.looseObject({ destination: z.string() })),
});

export interface RunningContainer extends Omit<RunningProgram, 'signal'> {
  /** Asks its first process to stop, as a cluster does. */
  stop(): Promise<string>;
  /** Runs another command inside, as a health check is run. */
  exec(...words: string[]): Promise<string>;
}

/** Settings that `docker run` would be given. */
export interface ContainerOrder {
  /** Follow the entry point. The image's own if absent. */
  readonly args?: readonly string[];
  /** Instead of the entry point and its arguments. */
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Folders of this machine by their place inside. */
  readonly volumes: Readonly<Record<string, string>>;
}

const MOUNTS_OF_OURS = ['/tmp', '/data', '/sys', '/sys/fs/cgroup'];

/** The configuration of the image with what a cluster adds, in a folder of its own. */
function configuredIn(image: string, order: ContainerOrder): string {
  const config = ConfigSchema.parse(JSON.parse(readFileSync(join(image, 'config.json'), 'utf8')));
  const { args: own, env } = config.process;
  // The entry point is `tini -- qianmo`.
  const args =
    order.command ?? (order.args === undefined ? own : [...own.slice(0, 3), ...order.args]);
  const none = ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'];
  const added = Object.entries(order.environment).map(([name, value]) => `${name}=${value}`);
  const bound = Object.entries(order.volumes).map(([destination, source]) => ({
    ...{ destination, type: 'bind', source, options: ['rbind', 'rw', 'nosuid', 'nodev'] },
  }));
  const readOnlySys = ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'];
  const written = {
    ...config,
    process: {
      ...config.process,
      ...{ terminal: false, args, env: [...env, ...added], noNewPrivileges: true },
      capabilities: Object.fromEntries(none.map((name) => [name, []])),
    },
    root: { path: join(image, 'rootfs'), readonly: true },
    // The network of the machine: Redis is on its loopback address.
    linux: {
      ...config.linux,
      namespaces: config.linux.namespaces.filter(({ type }) => type !== 'network'),
    },
    mounts: [
      ...config.mounts.filter(({ destination }) => !MOUNTS_OF_OURS.includes(destination)),
      { destination: '/sys', type: 'none', source: '/sys', options: readOnlySys },
      {
        ...{ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' },
        options: ['nosuid', 'nodev', 'mode=1777', 'size=1g'],
      },
      ...bound,
    ],
  };
  const bundle = mkdtempSync(join(tmpdir(), 'qianmo-container-'));
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(written));
  return bundle;
}

/** @param image unpacked; any number of containers run from it, since none writes to it */
export function startContainer(image: string, order: ContainerOrder): RunningContainer {
  const bundle = configuredIn(image, order);
  const id = `qianmo-${randomUUID().slice(0, 8)}`;
  const container = startProgram('runc', ['run', '--bundle', bundle, id]);
  return {
    saw: container.saw,
    ended: container.ended.finally(() => rmSync(bundle, { recursive: true })),
    stop: () => run('runc', 'kill', id, 'TERM'),
    exec: (...words) => run('runc', 'exec', id, ...words),
  };
}
