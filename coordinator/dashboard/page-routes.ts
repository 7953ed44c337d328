/** The pages by their paths. The first request, the stream of changes and the tests ask here. */

import { link, type Text } from '../reports/document/document.js';
import type { Clock } from '../../shared/base/clock.js';
import { isUnderWay } from '../record/run-state.js';
import type { QueueWatch } from './catalog/queue-watch.js';
import type { ControlDesk } from './control-desk.js';
import type { OpenedRun, RunCatalog } from './catalog/run-catalog.js';
import { EvaluationCatalog } from './catalog/evaluated-adgroup.js';
import { SweepCatalog } from './catalog/sweep-catalog.js';
import { settingsOf, type RunSettings } from './catalog/run-settings.js';
import { adgroupPage } from './pages/adgroup-page.js';
import { clusterPage, type ControlledRun } from './pages/cluster-page.js';
import { runPath, type Page } from './pages/page.js';
import { filterOf, runListPage } from './pages/run-list-page.js';
import { runPage } from './pages/run-page.js';
import { servingPage } from './pages/serving-page.js';
import { sweepListPage, sweepPage } from './pages/sweep-pages.js';
import type { ServedAdgroups } from './serving/served-adgroups.js';
import type { ServingWatch } from './serving/serving-watch.js';

interface RouteOptions {
  /** Null for a dashboard that knows the queue alone. */
  readonly catalog: RunCatalog | null;
  /** Null for one that knows records alone. */
  readonly watch: QueueWatch | null;
  /** Null for one that was told of no ranking server. */
  readonly serving: ServingWatch | null;
  /** Null, as if absent, for one that was told of none to ask about single adgroups. */
  readonly rankings?: ServedAdgroups | null;
  readonly desk: ControlDesk | null;
  readonly clock: Clock;
}

/** Files of an output that the dashboard shows: the pages that commands write. */
export const SHOWN_FILE = /^[a-z][A-Za-z0-9._-]{0,80}\.html$/;
/** Runs that the form of a comparison offers, the latest. */
const OFFERED_MAX = 50;

export class PageRoutes {
  readonly #options: RouteOptions;
  readonly #evaluations: EvaluationCatalog;
  #sweepCatalog: SweepCatalog | null = null;

  constructor(options: RouteOptions) {
    this.#options = options;
    this.#evaluations = new EvaluationCatalog(options.clock);
  }

  /** Null if there is no such page. */
  async pageAt(pathAndQuery: string): Promise<Page | null> {
    const { pathname, searchParams } = new URL(pathAndQuery, 'http://dashboard');
    const { catalog, serving } = this.#options;
    if (pathname === '/') return this.#clusterPage();
    if (pathname === '/serving')
      return serving === null ? null : servingPage(await serving.state());
    if (catalog === null) return null;
    if (pathname === '/runs') return runListPage(await catalog.runs(), filterOf(searchParams));
    if (pathname === '/sweeps') return sweepListPage(await this.#sweeps(catalog).sweeps());
    const [, sweepKey = ''] = /^\/sweeps\/([^/]+)$/.exec(pathname) ?? [];
    if (sweepKey !== '') return this.#sweepPage(catalog, decoded(sweepKey));
    const [, encoded = '', below] = /^\/runs\/([^/]+)(\/adgroup)?$/.exec(pathname) ?? [];
    if (encoded === '') return null;
    const key = decoded(encoded);
    return below === undefined
      ? this.#runPage(catalog, key, searchParams)
      : this.#adgroupPage(catalog, key, searchParams);
  }

  async #clusterPage(): Promise<Page> {
    const { catalog, watch, desk, clock } = this.#options;
    const [runs, queue] = await Promise.all([
      catalog === null ? null : catalog.runs(),
      watch === null
        ? null
        : watch.state().catch((error: unknown) => ({
            failure: error instanceof Error ? error.message : String(error),
          })),
    ]);
    const formOf = desk === null ? null : (run: ControlledRun) => desk.formOf(run, '/');
    return clusterPage({ runs, queue }, clock.epochMs(), formOf);
  }

  #sweeps(catalog: RunCatalog): SweepCatalog {
    this.#sweepCatalog ??= new SweepCatalog(catalog, this.#options.clock);
    return this.#sweepCatalog;
  }

  async #sweepPage(catalog: RunCatalog, key: string): Promise<Page | null> {
    const sweep = await this.#sweeps(catalog).open(key);
    return sweep === null ? null : sweepPage(sweep, (await catalog.runs()).runs);
  }

  async #adgroupPage(
    catalog: RunCatalog,
    key: string,
    query: URLSearchParams,
  ): Promise<Page | null> {
    const output = await catalog.storeOf(key);
    if (output === null) return null;
    const { rankings = null } = this.#options;
    const [name, segment] = [query.get('name'), query.get('segment')];
    const adgroups = await this.#evaluations.adgroupsOf(output, { name, segment });
    const asked =
      rankings === null || name === null ? null : await rankings.of(adgroups?.key ?? name);
    return adgroupPage({ key, run: key, name, adgroups, asked });
  }

  async #runPage(catalog: RunCatalog, key: string, query: URLSearchParams): Promise<Page | null> {
    const run = await catalog.open(key);
    if (run === null) return null;
    const chosen = query.get('with');
    const { run: name, state } = run.status;
    const { desk } = this.#options;
    return runPage(run, {
      key,
      control:
        desk === null || name === null || !isUnderWay(state)
          ? null
          : desk.formOf({ run: name, isPaused: state === 'paused' }, runPath(key)),
      settings: await settingsIn(catalog, key),
      compared:
        chosen === null ? null : { key: chosen, settings: await settingsIn(catalog, chosen) },
      others: await othersThan(catalog, key),
      links: [...reportLinks(run), link(`${runPath(key)}/adgroup`, 'single adgroups')],
    });
  }
}

async function settingsIn(catalog: RunCatalog, key: string): Promise<RunSettings | null> {
  const checkpoints = await catalog.storeOf(key, 'checkpoints');
  return checkpoints === null ? null : settingsOf(checkpoints);
}

async function othersThan(catalog: RunCatalog, key: string): Promise<string[]> {
  const { runs } = await catalog.runs();
  return runs
    .filter((run) => run.key !== key)
    .slice(0, OFFERED_MAX)
    .map((run) => run.key);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Reports that lie in the output are linked, others named. Calls name them as seen from their own folder. */
function reportLinks({ key, status, history }: OpenedRun): Text[] {
  const folder = status.output.split('/').at(-1) ?? '';
  return history.reports.map((address) => {
    const [name = '', parent = ''] = address.split('/').reverse();
    return parent === folder && SHOWN_FILE.test(name)
      ? link(`${runPath(key)}/files/${name}`, name)
      : address;
  });
}
