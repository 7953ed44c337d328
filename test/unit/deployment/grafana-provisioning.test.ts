/** Files that Grafana is provisioned with in the compose file: their fields, and whether they name what is there. */

import { basename, dirname, join, normalize } from 'node:path';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { COMPOSE, DASHBOARDS, documentsIn } from '../../deployment/manifests.js';

// Fields of a version 1 of provisioning, of those that Grafana reads.
const DataSources = z.strictObject({
  apiVersion: z.literal(1),
  datasources: z.array(
    z.strictObject({
      name: z.string(),
      type: z.literal('prometheus'),
      url: z.url(),
      isDefault: z.boolean(),
    }),
  ),
});
const Providers = z.strictObject({
  apiVersion: z.literal(1),
  providers: z.array(
    z.strictObject({
      name: z.string(),
      type: z.literal('file'),
      options: z.strictObject({ path: z.string() }),
    }),
  ),
});
const Compose = z.looseObject({
  services: z.looseObject({
    prometheus: z.looseObject({ ports: z.array(z.string()) }),
    grafana: z.looseObject({
      environment: z.record(z.string(), z.string()),
      secrets: z.array(z.string()),
      volumes: z.array(z.string()),
    }),
  }),
});
const Dashboard = z.looseObject({
  uid: z.string(),
  templating: z.looseObject({
    list: z.array(z.looseObject({ name: z.string(), type: z.string(), query: z.unknown() })),
  }),
});

const { services } = Compose.parse(documentsIn(COMPOSE)[0]);
const { grafana, prometheus } = services;
/** Paths inside, by the path in the repository. */
const mounted = new Map(
  grafana.volumes.flatMap((volume) => {
    const [source = '', target = ''] = volume.split(':');
    return source.startsWith('.') ? [[normalize(join(dirname(COMPOSE), source)), target]] : [];
  }),
);
const targetOf = (path: string): string => mounted.get(path) ?? 'not mounted';
const fileOf = (folder: string): string =>
  [...mounted].find(([, target]) =>
    target.startsWith(`/etc/grafana/provisioning/${folder}/`),
  )?.[0] ?? 'not mounted';

describe('Grafana in the compose file', () => {
  it('reads metrics from the Prometheus beside it', () => {
    const { datasources } = DataSources.parse(documentsIn(fileOf('datasources'))[0]);
    const ports = prometheus.ports.map((port) => port.split(':').at(-1));
    expect(datasources.map(({ url }) => url)).toEqual(
      ports.map((port) => `http://prometheus:${port}`),
    );
    expect(datasources.map(({ isDefault }) => isDefault)).toEqual([true]);
  });

  it('shows the dashboards of the folder that is mounted', () => {
    const { providers } = Providers.parse(documentsIn(fileOf('dashboards'))[0]);
    expect(providers.map(({ options }) => options.path)).toEqual([
      targetOf('infra/deploy/grafana'),
    ]);
  });

  it('has a password from a secret that it may read', () => {
    const password = grafana.environment['GF_SECURITY_ADMIN_PASSWORD__FILE'] ?? '';
    expect(dirname(password)).toBe('/run/secrets');
    expect(grafana.secrets).toContain(basename(password));
  });
});

describe('dashboards', () => {
  const dashboards = DASHBOARDS.map((path) =>
    Dashboard.parse(JSON.parse(readFileSync(path, 'utf8'))),
  );

  it('have identifiers of their own', () => {
    expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(DASHBOARDS.length);
  });

  it('let the user choose among the data sources of Prometheus, of which one is provisioned', () => {
    for (const { templating } of dashboards)
      expect(templating.list).toContainEqual(
        expect.objectContaining({ name: 'datasource', type: 'datasource', query: 'prometheus' }),
      );
  });
});
