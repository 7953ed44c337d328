/**
 * A Redis that is reached by TLS with certificates on both sides, by a user with the rights of the documentation. A proxy decrypts,
 * because the server that tests run has no TLS.
 */

import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { basename, join } from 'node:path';
import { createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { connectRedis } from '../../../shared/queue/redis-connection.js';
import { tlsFilesOf } from '../../../shared/storage/tls-files.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const run = promisify(execFile);

/** Whether certificates can be made here. */
async function canMakeCertificates(): Promise<boolean> {
  return run('openssl', ['version']).then(
    () => true,
    () => false,
  );
}

/** A certificate, its key, and the authority that signed it. */
interface Certificate {
  readonly certificateFile: string;
  readonly keyFile: string;
}

interface Authority {
  readonly caFile: string;
  /** @param name the host or the client that it is made out to. */
  issue(name: string): Promise<Certificate>;
}

/** An authority of its own, whose files lie in a new folder of this name. */
async function authorityIn(folder: string): Promise<Authority> {
  await mkdir(folder);
  const [caFile, caKeyFile] = [join(folder, 'ca.crt'), join(folder, 'ca.key')];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', [
    ...['req', '-x509', ...newKey, '-keyout', caKeyFile, '-out', caFile],
    ...['-days', '2', '-subj', `/CN=authority in ${basename(folder)}`],
  ]);
  return {
    caFile,
    issue: async (name) => {
      const place = (kind: string): string => join(folder, `${name}.${kind}`);
      const [certificateFile, keyFile] = [place('crt'), place('key')];
      const kind = /^[\d.]+$/.test(name) ? 'IP' : 'DNS';
      await writeFile(place('ext'), `subjectAltName=${kind}:${name}\n`);
      await run('openssl', [
        ...['req', ...newKey, '-keyout', keyFile, '-out', place('csr'), '-subj', `/CN=${name}`],
      ]);
      await run('openssl', [
        ...['x509', '-req', '-in', place('csr'), '-CA', caFile, '-CAkey', caKeyFile],
        ...['-CAcreateserial', '-days', '2', '-extfile', place('ext'), '-out', certificateFile],
      ]);
      return { certificateFile, keyFile };
    },
  };
}

interface TlsRedis {
  readonly port: number;
  close(): Promise<void>;
}

/** Leads to the server at this port those who show a certificate of the authority. */
async function tlsRedis(
  redisPort: number,
  authority: Authority,
  { certificateFile, keyFile }: Certificate,
): Promise<TlsRedis> {
  const [ca, cert, key] = await Promise.all(
    [authority.caFile, certificateFile, keyFile].map((file) => readFile(file)),
  );
  const open = new Set<TLSSocket>();
  const credentials = { ca, cert, key, requestCert: true, rejectUnauthorized: true };
  const server = createServer({ ...credentials }, (client) => {
    open.add(client);
    const redis = connect(redisPort, '127.0.0.1');
    const end = (): void => {
      open.delete(client);
      client.destroy();
      redis.destroy();
    };
    for (const socket of [client, redis]) socket.on('error', end).on('close', end);
    client.pipe(redis).pipe(client);
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // A listening TCP server has an address with a port.
  const { port } = server.address() as AddressInfo;
  return {
    port,
    close: async () => {
      for (const client of open) client.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const PAGE = new URL('../../../infra/docs/machines.md', import.meta.url);
const HOST = '127.0.0.1';

describe.skipIf(!(await canMakeCertificates()))('Redis behind TLS', () => {
  const room = openedOnce(commandRoom);
  const redis = openedOnce(redisForTest);
  let authority: Authority;
  let client: Certificate;
  let behind: TlsRedis;
  let url: string;
  beforeAll(async () => {
    authority = await authorityIn(join(room.folder, 'authority'));
    client = await authority.issue('worker-1');
    behind = await tlsRedis(redis.server.port, authority, await authority.issue(HOST));
    const page = await readFile(PAGE, 'utf8');
    const recipe = /^redis-cli (ACL SETUSER (?:[^\\\n]|\\\n)*)$/m.exec(page)?.[1] ?? '';
    const [command = '', ...rules] = recipe.replace(/\\\n|'/g, ' ').split(/\s+/);
    await redis.client.call(command, ...rules.filter((rule) => rule !== ''));
    url = `rediss://qianmo:PASSWORD@${HOST}:${behind.port}`;
    for (const [name, value] of Object.entries(environment())) vi.stubEnv(name, value);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await behind.close();
  });

  const environment = (departures: Record<string, string> = {}): Record<string, string> => ({
    QIANMO_REDIS_URL: url,
    QIANMO_REDIS_CA_FILE: authority.caFile,
    QIANMO_REDIS_CERTIFICATE_FILE: client.certificateFile,
    QIANMO_REDIS_KEY_FILE: client.keyFile,
    ...departures,
  });

  async function failureWith(departures: Record<string, string>): Promise<QianmoError['report']> {
    const given = environment(departures);
    const attempt = async (): Promise<never> => {
      const tls = await tlsFilesOf(given);
      const connection = await connectRedis({
        ...{ url: given['QIANMO_REDIS_URL'] ?? '', role: 'producer', tls },
      });
      connection.disconnect();
      throw new Error('expected a failure');
    };
    const error: unknown = await attempt().catch((thrown: unknown) => thrown);
    if (error instanceof QianmoError) return error.report;
    throw error;
  }

  it('carries a run, its worker and its queue board', async () => {
    const run = await room.config('qianmo', (config) => {
      Object.assign(config, { queue: { prefix: '{qianmo}' } });
    });
    await room.done(['prepare', run]);
    await redis.client.call('ACL', 'SETUSER', 'qianmo', '+info');
    const trained = room.start(['train', run, '--workers', '1', '--dashboard']);
    const { exitCode, diagnostics } = await trained.ended;
    await redis.client.call('ACL', 'SETUSER', 'qianmo', '-info');
    expect(exitCode, diagnostics).toBe(0);
    expect(diagnostics).toContain(`rediss://qianmo:***@${HOST}:${behind.port}`);
    expect(diagnostics).toContain('dashboard: ');
    expect(await room.done(['check', run])).toContain('may not ask for INFO');
  });

  it('carries commands to runs, and what is asked about workers', async () => {
    expect(await room.done(['workers'])).toContain('no workers');
    const failure = {
      exitCode: 2,
      what: /^no coordinator works on run none$/,
      cure: /check/,
    } as const;
    await room.refused(['cancel', 'none'], failure);
  });

  it.each([
    ['no authority', { QIANMO_REDIS_CA_FILE: '' }, /not one to be trusted/, /QIANMO_REDIS_CA_FILE/],
    [
      'no certificate of its own',
      { QIANMO_REDIS_CERTIFICATE_FILE: '', QIANMO_REDIS_KEY_FILE: '' },
      /does not trust the certificate of this machine/,
      /QIANMO_REDIS_CERTIFICATE_FILE/,
    ],
  ])('is not reached with %s', async (_, departures, what, cure) => {
    const report = await failureWith(departures);
    expect(report.what).toMatch(what);
    expect(report.cure).toMatch(cure);
    expect(report.where).toBe(`rediss://qianmo:***@${HOST}:${behind.port}`);
  });

  it('is not reached under a name that its certificate does not have', async () => {
    const other = { QIANMO_REDIS_URL: `rediss://qianmo:PASSWORD@localhost:${behind.port}` };
    expect((await failureWith(other)).found).toMatch(/altnames/);
  });

  it('is not reached with a certificate of another authority', async () => {
    const stranger = await (await authorityIn(join(room.folder, 'strange'))).issue('worker-1');
    const report = await failureWith({
      QIANMO_REDIS_CERTIFICATE_FILE: stranger.certificateFile,
      QIANMO_REDIS_KEY_FILE: stranger.keyFile,
    });
    // The proxy ends the connection without the alert that Redis would send.
    expect(report).toMatchObject({ kind: 'environment', what: 'Redis does not answer' });
  });

  it.each([
    [{ QIANMO_REDIS_KEY_FILE: '' }, 'usage', 'belong together'],
    [{ QIANMO_REDIS_CA_FILE: '/none' }, 'environment', 'cannot be read'],
    [{ QIANMO_REDIS_URL: 'redis://queue.internal:6379' }, 'usage', 'not encrypted'],
    [{ QIANMO_REDIS_URL: 'redis://127.queue.internal:6379' }, 'usage', 'not encrypted'],
  ])('is not looked for with %j', async (departures, kind, what) => {
    expect(await failureWith(departures)).toMatchObject({
      kind,
      what: expect.stringContaining(what) as string,
    });
  });
});
