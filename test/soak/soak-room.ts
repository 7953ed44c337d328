/**
 * The room of a soak: a small prepared store, a primary and a replica of Redis behind one address, a small
 * disk, and commands that keep their temporary files in a folder of their own.
 */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  startCommand,
  type EndedCommand,
  type RunningCommand,
} from '../fixtures/commands/command.js';
import { smallLog, smallRun } from '../fixtures/commands/small-run.js';
import { canMountDisks, smallDisk, type SmallDisk } from '../fixtures/faults/small-disk.js';
import { redisOnSmallDisk, type RedisOnSmallDisk } from '../fixtures/queue/full-disk.js';
import { replicatedRedis, type ReplicatedRedis } from '../fixtures/queue/replicated-redis.js';

export const QUEUE_PREFIX = '{soak}';
/** Short, so that the number of blobs levels off within a soak. */
export const BLOB_LIFETIME_MINUTES = 10;
const DISK_BYTE_COUNT = 64 * 1024 * 1024;

export interface SoakRoom {
  readonly redis: ReplicatedRedis<RedisOnSmallDisk>;
  readonly folder: string;
  /** Where all commands keep their temporary files. */
  readonly temporary: string;
  /** A disk of its own that can be filled; null where no file system can be mounted. */
  readonly disk: SmallDisk | null;
  /** Writes the config of a run and returns its path. The run's output is the folder of its name. */
  writeRun(name: string, outerSteps: number, output?: string): Promise<string>;
  readonly start: (...args: string[]) => RunningCommand;
  /** Runs a command that must succeed. */
  done(...args: string[]): Promise<EndedCommand>;
  close(): Promise<void>;
}

export async function openSoakRoom(): Promise<SoakRoom> {
  const redis = await replicatedRedis(redisOnSmallDisk);
  const folder = await mkdtemp(join(tmpdir(), 'qianmo-soak-'));
  const temporary = join(folder, 'temporary');
  await mkdir(temporary);
  await writeFile(join(folder, 'log.csv'), smallLog());
  const disk = canMountDisks ? smallDisk(DISK_BYTE_COUNT) : null;
  const start = (...args: string[]): RunningCommand =>
    startCommand(args, folder, { TMPDIR: temporary });
  return {
    ...{ redis, folder, temporary, disk, start },
    writeRun: async (name, outerSteps, output = name) => {
      const path = join(folder, `${name}.yaml`);
      const { training, ...rest } = smallRun(name, outerSteps);
      const config = {
        ...rest,
        training: { ...training, checkpointEveryOuterSteps: 25 },
        queue: { prefix: QUEUE_PREFIX, blobLifetimeMs: BLOB_LIFETIME_MINUTES * 60_000 },
        output,
      };
      // JSON is valid YAML.
      await writeFile(path, JSON.stringify(config));
      return path;
    },
    done: async (...args) => {
      const ended = await start(...args).ended;
      if (ended.exitCode !== 0) throw new Error(`${args.join(' ')}: ${ended.diagnostics}`);
      return ended;
    },
    close: async () => {
      await redis.close();
      disk?.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
