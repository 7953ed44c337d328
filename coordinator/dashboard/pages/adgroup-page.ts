/** The page of one adgroup of a run: its evaluation, and the statistics of ranking servers. */

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
} from '../../reports/document/document.js';
import { formatCount, formatNumber, formatPart, timeText } from '../../reports/document/format.js';
import type {
  EvaluatedAdgroup,
  EvaluatedAdgroups,
  NamedAdgroup,
} from '../catalog/evaluated-adgroup.js';
import type { AskedServer } from '../serving/served-adgroups.js';
import { headPart, part, runPath, type Page } from './page.js';

interface ShownAdgroup {
  /** The key and the name of the run. */
  readonly key: string;
  readonly run: string;
  /** Null for the list of adgroups. */
  readonly name: string | null;
  /** Null before an evaluation. */
  readonly adgroups: EvaluatedAdgroups | null;
  /** Answers of ranking servers; null if the dashboard has no servers, or no adgroup is shown. */
  readonly asked: readonly AskedServer[] | null;
}

export function adgroupPage({ key, run, name, adgroups, asked }: ShownAdgroup): Page {
  const title = name === null ? 'Adgroups' : `Adgroup ${shownName(name)}`;
  const path = `${runPath(key)}/adgroup`;
  return {
    title: `${title}, ${run}`,
    place: '/runs',
    parts: [
      headPart(title, link(runPath(key), run)),
      part('segments', ...(adgroups === null ? [] : segmentLinks(path, adgroups))),
      part('search', ...(adgroups === null ? [] : [searchForm(path, name, adgroups)])),
      part('adgroup', ...content(path, name, adgroups)),
      part('served', ...(name === null ? [] : [servedSection(asked)])),
    ],
  };
}

/** Values of several task columns are separated by U+001F. */
function shownName(name: string): string {
  return name.replaceAll('\u001f', ', ');
}

/** Each segment has an evaluation of its own. */
function segmentLinks(path: string, { segments, segment }: EvaluatedAdgroups): Block[] {
  if (segments.length === 0) return [];
  const links = segments.map((each) => ({
    ...link(`${path}?${new URLSearchParams({ segment: each }).toString()}`, each),
    isCurrent: each === segment,
  }));
  return [{ kind: 'links', label: 'Segments', links: ['Segment: ', ...links] }];
}

function searchForm(
  action: string,
  name: string | null,
  { names, count, segment }: EvaluatedAdgroups,
): Form {
  const within = segment === null ? '' : ` of segment ${segment}`;
  return {
    ...{ kind: 'form', method: 'get', action, buttons: [{ text: 'Show' }] },
    hidden: segment === null ? {} : { segment },
    fields: [
      {
        label: `One of ${formatCount(count)} test adgroups${within}`,
        ...{ name: 'name', value: shownName(name ?? ''), isText: true },
        options: names.map(shownName),
      },
    ],
  };
}

function content(path: string, name: string | null, adgroups: EvaluatedAdgroups | null): Block[] {
  if (adgroups === null)
    return [
      absence(
        'Single adgroups are in the output of an evaluation. Run `qianmo evaluate`, which evaluates the adgroups of the test split.',
      ),
    ];
  if (name === null) return [largestSection(path, adgroups)];
  if (adgroups.found !== null) return foundBlocks(adgroups.found);
  const where = adgroups.segments.length === 0 ? 'The evaluation' : 'No segment';
  return [
    absence(
      `${where} has ${where === 'No segment' ? 'a' : 'no'} test adgroup of this name. Adgroups of other splits were not evaluated.`,
    ),
  ];
}

function largestSection(path: string, { largest, count, segment }: EvaluatedAdgroups): Block {
  const [first] = largest;
  if (first === undefined) return absence('The evaluation has no test adgroup.');
  const some =
    largest.length < count
      ? `${formatCount(largest.length)} of ${formatCount(count)} test adgroups, by`
      : 'By';
  return section('Largest adgroups', `${some} the impressions of their query rows.`, [
    tableBlock('Largest adgroups', {
      columns: columnsOf(
        ...['<adgroup', 'support rows', 'impressions', outcomeName(first)],
        ...[`query ${first.loss} before`, 'after adaptation'],
      ),
      rows: largest.map((adgroup) => largestRow(path, segment, adgroup)),
    }),
  ]);
}

function outcomeName({ loss }: EvaluatedAdgroup): string {
  return loss === 'logloss' ? 'clicks' : 'sum of values';
}

function largestRow(path: string, segment: string | null, adgroup: NamedAdgroup): Cell[] {
  const { name, supportRowCount, impressions, clicks } = adgroup;
  const query = new URLSearchParams({ ...(segment === null ? {} : { segment }), name }).toString();
  return [
    link(`${path}?${query}`, shownName(name)),
    ...[supportRowCount, impressions, clicks].map(formatCount),
    ...['meta-unadapted', 'meta-adapted'].map((arm) => formatNumber(lossOf(adgroup, arm), 4)),
  ];
}

function lossOf({ arms }: EvaluatedAdgroup, wanted: string): number | undefined {
  return arms.find(({ arm }) => arm === wanted)?.queryLoss;
}

function foundBlocks(found: EvaluatedAdgroup): Block[] {
  const { supportRowCount, queryRowCount, impressions, clicks, loss, arms } = found;
  const losses = (['before', 'after'] as const).flatMap((when): Fact[] => {
    const own = lossOf(found, when === 'before' ? 'meta-unadapted' : 'meta-adapted');
    return own === undefined ? [] : [[own.toFixed(4), `query ${loss}`, `${when} adaptation`]];
  });
  const best = Math.min(...arms.map(({ queryLoss }) => queryLoss));
  return [
    factsBlock(
      [formatCount(supportRowCount), 'support rows'],
      [formatCount(queryRowCount), 'query rows'],
      [formatCount(impressions), 'impressions', 'of the query rows'],
      [formatCount(clicks), outcomeName(found)],
      ...losses,
    ),
    section(
      'Arms',
      'Means over the query rows. One adgroup has few rows: a difference here is mostly chance.',
      [
        tableBlock(`Query ${loss} of each arm`, {
          columns: columnsOf('<arm', `query ${loss}`, 'above the best'),
          rows: arms.map(({ arm, queryLoss }) => [
            arm,
            queryLoss.toFixed(4),
            queryLoss === best ? 'best' : (queryLoss - best).toFixed(4),
          ]),
        }),
      ],
    ),
  ];
}

function servedSection(asked: readonly AskedServer[] | null): Block {
  const title = 'On ranking servers';
  if (asked === null)
    return section(title, '', [
      absence(
        'This dashboard knows no ranking server. Give `--rankings` with the addresses of servers that explore.',
      ),
    ]);
  const table = tableBlock(title, {
    columns: columnsOf(
      ...['<server', 'impressions', 'share of all', 'explored', 'mean propensity'],
      ...['outcomes per impression', 'settled', '<first, UTC'],
    ),
    rows: asked.map(servedRow),
  });
  return section(
    title,
    'Impressions that feedback reported to servers that explore. Servers that share their evidence report the same. An outcome counts when its impression has settled.',
    [table],
  );
}

function servedRow({ address, served, failure }: AskedServer): Cell[] {
  if (served === null) return [address, `unknown: ${failure}`, '-', '-', '-', '-', '-', '-'];
  const { impressions, rewards, firstMs, served: own, all } = served;
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
