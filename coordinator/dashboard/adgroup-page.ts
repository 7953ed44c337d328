/** The adgroups of an evaluated run: the largest, or one with its losses and what ranking servers say of it. */

import { spanAt } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { exchange } from '../../shared/base/http-exchange.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import { shownArm } from '../../shared/config/arms.js';
import { ServedAdgroupSchema, type ServedAdgroup } from '../../shared/config/decision-record.js';
import { addressBelow } from '../../shared/network/addresses.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { readEvaluatedRun, type EvaluatedRun } from '../scoring/compare-runs.js';
import {
  absence,
  columnsOf,
  factsBlock,
  link,
  section,
  tableBlock,
  type Block,
  type Cell,
  type Fact,
  type Form,
} from '../reports/document/document.js';
import { formatCount, formatNumber, formatPart, timeText } from '../reports/document/format.js';
import { isOfValues, lossSum, sumOf } from '../scoring/metrics.js';
import { REPORT_FILE, segmentOfKey } from '../scoring/evaluation-report.js';
import { runPath, type Page } from './page.js';

export interface RankingServers {
  /** Their own addresses, over HTTP, not those of their metrics. */
  readonly addresses: readonly string[];
  /** Null where they demand none. */
  readonly token: string | null;
}

/** An evaluation of the test adgroups of a run, or of one of its segments. */
interface Evaluation extends EvaluatedRun {
  readonly segment: string | null;
  /** The time of the report that it was read from, which is the last of its files. */
  readonly modifiedMs: number;
}

const EVALUATIONS_KEPT = 4;
const NAMES_MAX = 200;
const LARGEST_MAX = 50;
const SERVER_TIMEOUT_MS = 2_000;
const KEPT_FOR_MS = 10_000;

export class AdgroupPages {
  readonly #servers: RankingServers | null;
  readonly #clock: Clock;
  /** Each evaluation is read once, and again when its report was written anew. */
  readonly #read = new LruCache<string, Evaluation>({ countMax: EVALUATIONS_KEPT });

  constructor(servers: RankingServers | null, clock: Clock) {
    this.#servers = servers;
    this.#clock = clock;
  }

  /** @param query may have the `name` of an adgroup, and the `segment` to look in first */
  async page(key: string, output: ObjectStore, query: URLSearchParams): Promise<Page> {
    const [name, asked] = [query.get('name'), query.get('segment')];
    const reports = (await output.listWithTimes('evaluation')).flatMap((listed) => {
      const segment = segmentOfKey(REPORT_FILE, listed.key);
      return segment === undefined ? [] : [{ segment, modifiedMs: listed.modifiedMs }];
    });
    const first = reports.find(({ segment }) => segment === asked) ?? reports[0];
    let evaluation = first === undefined ? null : await this.#evaluation(output, first);
    let index = evaluation === null || name === null ? -1 : placeOf(name, evaluation);
    // The adgroup may be in another segment than the one that was asked for.
    for (const report of name === null ? [] : reports) {
      if (index >= 0) break;
      const other = await this.#evaluation(output, report);
      index = placeOf(name ?? '', other);
      if (index >= 0) evaluation = other;
    }
    const path = `${runPath(key)}/adgroup`;
    const title = name === null ? 'Adgroups' : `Adgroup ${shownName(name)}`;
    const segments = reports.flatMap(({ segment }) => segment ?? []);
    const served =
      name === null ? [] : [await this.#servedSection(evaluation?.logits.taskKeys[index] ?? name)];
    return {
      ...{ title: `${title}, ${key}`, heading: title, crumbs: link(runPath(key), key) },
      ...{ place: '/runs', keptForMs: KEPT_FOR_MS },
      parts: {
        segments: segmentLinks(path, segments, evaluation),
        search: evaluation === null ? [] : [searchForm(path, name, evaluation)],
        adgroup:
          evaluation === null
            ? [absence('Single adgroups are in the output of `qianmo evaluate`.')]
            : name === null
              ? [largestSection(path, evaluation)]
              : index < 0
                ? [absence('No test adgroup has this name. Others were not evaluated.')]
                : adgroupBlocks(evaluation, index),
        served,
      },
    };
  }

  async #evaluation(
    output: ObjectStore,
    { segment, modifiedMs }: Pick<Evaluation, 'segment' | 'modifiedMs'>,
  ): Promise<Evaluation> {
    const key = JSON.stringify([output.address, segment]);
    const known = this.#read.get(key);
    if (known?.modifiedMs === modifiedMs) return known;
    const run = await readEvaluatedRun(output, segment);
    const read = { ...run, segment, modifiedMs };
    this.#read.put(key, read);
    return read;
  }

  async #servedSection(adgroup: string): Promise<Block> {
    const title = 'On ranking servers';
    const servers = this.#servers;
    if (servers === null)
      return section(title, '', [
        absence(
          'This dashboard knows no ranking server. Give `--rankings` with the addresses of servers that explore.',
        ),
      ]);
    const rows = await Promise.all(
      servers.addresses.map(async (server): Promise<Cell[]> => {
        const address = redactedAddress(server);
        try {
          return servedRow(address, await this.#ask(server, adgroup, servers.token));
        } catch (error) {
          const reason = error instanceof Error ? error.message : String(error);
          return [address, `unknown: ${reason}`, '-', '-', '-', '-', '-', '-'];
        }
      }),
    );
    const columns = columnsOf(
      ...['<server', 'impressions', 'share of all', 'explored', 'mean propensity'],
      ...['outcomes per impression', 'settled', '<first, UTC'],
    );
    return section(
      title,
      'Impressions that feedback reported to servers that explore. Servers that share their evidence report the same. An outcome counts when its impression has settled.',
      [tableBlock(title, { columns, rows })],
    );
  }

  async #ask(server: string, adgroup: string, token: string | null): Promise<ServedAdgroup> {
    const url = addressBelow(server, `/v1/exploration/${encodeURIComponent(adgroup)}`);
    const headers: Record<string, string> =
      token === null ? {} : { authorization: `Bearer ${token}` };
    const bounds = { clock: this.#clock, timeoutMs: SERVER_TIMEOUT_MS };
    const { status, text } = await exchange({ method: 'GET', url, headers }, bounds);
    if (status === 404) throw new Error('it does not explore');
    if (status === 401) throw new Error('it demands another token');
    if (status !== 200) throw new Error(`it answers with status ${status}`);
    try {
      return ServedAdgroupSchema.parse(JSON.parse(text));
    } catch {
      throw new Error('its answer is not that of a ranking server');
    }
  }
}

/** Values of several task columns are separated by U+001F, which no keyboard has. */
function shownName(name: string): string {
  return name.replaceAll('\u001f', ', ');
}

function placeOf(name: string, { logits: { taskKeys } }: Evaluation): number {
  return taskKeys.findIndex((key) => shownName(key) === shownName(name));
}

/** Each segment has an evaluation of its own. */
function segmentLinks(
  path: string,
  segments: readonly string[],
  evaluation: Evaluation | null,
): Block[] {
  if (segments.length === 0) return [];
  const links = segments.map((each) => ({
    ...link(`${path}?${new URLSearchParams({ segment: each }).toString()}`, each),
    isCurrent: each === evaluation?.segment,
  }));
  return [{ kind: 'links', label: 'Segments', links: ['Segment: ', ...links] }];
}

function searchForm(action: string, name: string | null, { logits, segment }: Evaluation): Form {
  const within = segment === null ? '' : ` of segment ${segment}`;
  return {
    ...{ kind: 'form', method: 'get', action, buttons: [{ text: 'Show' }] },
    hidden: segment === null ? {} : { segment },
    fields: [
      {
        label: `One of ${formatCount(logits.taskKeys.length)} test adgroups${within}`,
        ...{ name: 'name', value: shownName(name ?? ''), isText: true },
        options: [...logits.taskKeys].sort().slice(0, NAMES_MAX).map(shownName),
      },
    ],
  };
}

function countsAt({ report, logits }: Evaluation, index: number) {
  const { rows } = logits;
  const [start, end] = spanAt(rows.starts, index);
  return {
    clicks: rows.clicks.subarray(start, end),
    impressions: rows.impressions.subarray(start, end),
    ...(report.label === undefined ? {} : { label: report.label }),
  };
}

/** The mean loss of an arm over the query rows, by impressions. */
function lossAt(evaluation: Evaluation, index: number, arm: string): number | undefined {
  const logits = evaluation.logits.logits.get(arm);
  if (logits === undefined) return undefined;
  const counts = countsAt(evaluation, index);
  const [start, end] = spanAt(evaluation.logits.rows.starts, index);
  return lossSum(logits.subarray(start, end), counts) / sumOf(counts.impressions);
}

/** `logloss`, or `squared error` where the label is a value. */
function lossName(evaluation: Evaluation): string {
  return isOfValues(countsAt(evaluation, 0)) ? 'squared error' : 'logloss';
}

function outcomeName(evaluation: Evaluation): string {
  return isOfValues(countsAt(evaluation, 0)) ? 'sum of values' : 'clicks';
}

function largestSection(path: string, evaluation: Evaluation): Block {
  const { logits, segment } = evaluation;
  const largest = logits.taskKeys
    .map((name, index) => {
      const { impressions } = countsAt(evaluation, index);
      return { name, index, impressions: sumOf(impressions) };
    })
    .sort((a, b) => b.impressions - a.impressions || (a.name < b.name ? -1 : 1))
    .slice(0, LARGEST_MAX);
  if (largest.length === 0) return absence('The evaluation has no test adgroup.');
  const rows = largest.map(({ name, index, impressions }): Cell[] => {
    const query = new URLSearchParams({ ...(segment === null ? {} : { segment }), name });
    return [
      link(`${path}?${query.toString()}`, shownName(name)),
      formatCount(logits.supportRowCounts[index] ?? 0),
      formatCount(impressions),
      formatCount(sumOf(countsAt(evaluation, index).clicks)),
      formatNumber(lossAt(evaluation, index, 'meta-unadapted'), 4),
      formatNumber(lossAt(evaluation, index, 'meta-adapted'), 4),
    ];
  });
  const columns = columnsOf(
    ...['<adgroup', 'support rows', 'impressions', outcomeName(evaluation)],
    ...[`query ${lossName(evaluation)} before`, 'after adaptation'],
  );
  const count = formatCount(logits.taskKeys.length);
  const note = `${formatCount(rows.length)} of ${count} test adgroups, by the impressions of their query rows.`;
  return section('Largest adgroups', note, [tableBlock('Largest adgroups', { columns, rows })]);
}

function adgroupBlocks(evaluation: Evaluation, index: number): Block[] {
  const { logits, report } = evaluation;
  const { clicks, impressions } = countsAt(evaluation, index);
  const loss = lossName(evaluation);
  const losses = [...logits.logits.keys()].map((arm) => ({
    arm,
    loss: lossAt(evaluation, index, arm) ?? NaN,
  }));
  const pair = [
    ['meta-unadapted', 'before'],
    ['meta-adapted', 'after'],
  ] as const;
  const best = Math.min(...losses.map((each) => each.loss));
  return [
    factsBlock(
      [formatCount(logits.supportRowCounts[index] ?? 0), 'support rows'],
      [formatCount(impressions.length), 'query rows'],
      [formatCount(sumOf(impressions)), 'impressions', 'of the query rows'],
      [formatCount(sumOf(clicks)), outcomeName(evaluation)],
      ...pair.flatMap(([arm, when]): Fact[] => {
        const own = lossAt(evaluation, index, arm);
        return own === undefined ? [] : [[own.toFixed(4), `query ${loss}`, `${when} adaptation`]];
      }),
    ),
    section(
      'Arms',
      'Means over the query rows. One adgroup has few rows: a difference here is mostly chance.',
      [
        tableBlock(`Query ${loss} of each arm`, {
          columns: columnsOf('<arm', `query ${loss}`, 'above the best'),
          rows: losses.map((each) => [
            shownArm(each.arm, report.run.personalBlocks),
            each.loss.toFixed(4),
            each.loss === best ? 'best' : (each.loss - best).toFixed(4),
          ]),
        }),
      ],
    ),
  ];
}

function servedRow(address: string, { served: own, all, ...seen }: ServedAdgroup): Cell[] {
  const { impressions, rewards, firstMs } = seen;
  return [
    address,
    formatCount(own.impressions),
    formatPart(own.impressions, all.impressions),
    formatPart(own.explored, own.impressions),
    own.impressions === 0 ? '-' : (own.propensities / own.impressions).toFixed(3),
    impressions === 0 ? '-' : (rewards / impressions).toFixed(4),
    formatCount(impressions),
    firstMs === null ? '-' : timeText(firstMs),
  ];
}
