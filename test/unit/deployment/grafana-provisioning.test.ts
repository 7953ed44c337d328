/** Files that Grafana is provisioned with in the compose file: their fields, and whether they name what is there. */

import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { COMPOSE, documentsIn } from '../../deployment/manifests.js';

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
});
