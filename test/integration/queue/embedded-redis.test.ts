// The embedded Redis server is durable across a kill, never evicts, and ends with its parent.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { askOnce } from '../../../infra/bootstrap/server-process.mjs';
import { findRedisServer, startEmbeddedRedis } from '../../../infra/bootstrap/embedded-redis.mjs';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const server = await findRedisServer();
const folder = openedForEach(temporaryFolder);

describe.skipIf(server === null)('startEmbeddedRedis', () => {
  it('keeps fsynced writes after a kill, on the same port', async () => {
    const redis = await startEmbeddedRedis({ dataDir: folder.path });
    const client = new Redis(redis.url, { maxRetriesPerRequest: null });
    client.on('error', () => undefined);
    try {
      expect(await client.config('GET', 'maxmemory-policy')).toEqual([
        'maxmemory-policy',
        'noeviction',
      ]);
      await client.set('key', 'value');
      // Resolves when the append-only file is on disk.
      await client.call('WAITAOF', '1', '0', '0');
      const { port, pid } = redis;
      await redis.kill();
      expect(redis.isRunning()).toBe(false);
      await redis.restart();
      expect(redis.port).toBe(port);
      expect(redis.pid).not.toBe(pid);
      expect(await client.get('key')).toBe('value');
    } finally {
      client.disconnect();
      await redis.stop();
    }
    expect(redis.isRunning()).toBe(false);
  });

  it('shows its password in no list of processes, and its data to no other user', async () => {
    const redis = await startEmbeddedRedis({ dataDir: folder.path });
    onTestFinished(() => redis.stop());
    const password = new URL(redis.url).password;
    expect(password).toMatch(/^[0-9a-f]{48}$/);
    const shown = await readFile(`/proc/${redis.pid}/cmdline`, 'utf8');
    expect(shown).toContain('-server');
    expect(shown).not.toContain(password);
    expect((await stat(join(folder.path, 'redis.conf'))).mode & 0o777).toBe(0o600);
    expect(await askOnce(redis.port, 'GET key\r\n')).toMatch(/^-NOAUTH/);
  });

  it('does not outlive a parent that was killed', async () => {
    const module = new URL('../../../infra/bootstrap/embedded-redis.mjs', import.meta.url).href;
    const script = `const { startEmbeddedRedis } = await import(${JSON.stringify(module)});
      const redis = await startEmbeddedRedis({ dataDir: ${JSON.stringify(folder.path)} });
      console.log(redis.port); setInterval(() => undefined, 1000);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [firstOutput] = (await once(parent.stdout, 'data')) as [Buffer]; // bytes: no encoding set
    const port = Number(firstOutput.toString());
    const answer = (): Promise<string> => askOnce(port, 'PING\r\n');
    // It runs, and answers nobody without the password.
    await expect.poll(answer, { timeout: 300_000 }).toMatch(/^-NOAUTH/);
    parent.kill('SIGKILL');
    await expect.poll(answer, { timeout: 300_000 }).toBe('');
  });
});
