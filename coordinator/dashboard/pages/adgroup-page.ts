/** The page of one adgroup of a run: what an evaluation says about it, and what ranking servers say. */

import { escapeHtml } from '../../reports/html-text.js';
import { formatCount, formatShare } from '../../reports/text-format.js';
import type {
  EvaluatedAdgroup,
  EvaluatedAdgroups,
  NamedAdgroup,
} from '../catalog/evaluated-adgroup.js';
import type { AskedServer } from '../serving/served-adgroups.js';
import {
  facts,
  link,
  nothing,
  regionTable,
  runPath,
  sectionHtml,
  timeText,
  type Cell,
} from './elements.js';
import type { Page } from './page.js';

/** Values of several task columns stand side by side. */
const SEPARATOR = '\u001f';

interface ShownAdgroup {
  /** The key and the name of the run. */
  readonly key: string;
  readonly run: string;
  /** Null: none was asked for. */
  readonly name: string | null;
  /** Null before an evaluation. */
  readonly adgroups: EvaluatedAdgroups | null;
  /** Answers of ranking servers about it; null if the dashboard was told of none, or none was asked for. */
  readonly asked: readonly AskedServer[] | null;
}

export function adgroupPage({ key, run, name, adgroups, asked }: ShownAdgroup): Page {
  const title = name === null ? 'Adgroups' : `Adgroup ${name.replaceAll(SEPARATOR, ', ')}`;
  const back = link(runPath(key), run).html;
  return {
    title: `${title}, ${run}`,
    place: '/runs',
    parts: [
      { id: 'head', html: `<p class="crumbs">${back}</p><h1>${escapeHtml(title)}</h1>` },
      { id: 'segments', html: adgroups === null ? '' : segmentsHtml(key, adgroups) },
      { id: 'search', html: adgroups === null ? '' : formHtml(key, name, adgroups) },
      { id: 'adgroup', html: contentHtml(key, name, adgroups) },
      { id: 'served', html: name === null ? '' : servedHtml(asked) },
    ],
  };
}

/** Each segment has an evaluation of its own. Empty for a run without segments. */
function segmentsHtml(key: string, { segments, segment }: EvaluatedAdgroups): string {
  if (segments.length === 0) return '';
  const links = segments.map((each) => {
    const query = new URLSearchParams({ segment: each }).toString();
    const { html } = link(`${runPath(key)}/adgroup?${query}`, each);
    return each === segment ? html.replace('<a ', '<a aria-current="true" ') : html;
  });
  return `<nav class="choices" aria-label="Segments">Segment: ${links.join(' ')}</nav>`;
}

function formHtml(key: string, name: string | null, adgroups: EvaluatedAdgroups): string {
  const { names, count, segment } = adgroups;
  const within = segment === null ? '' : ` of segment ${escapeHtml(segment)}`;
  const hidden =
    segment === null ? '' : `<input type="hidden" name="segment" value="${escapeHtml(segment)}">`;
  const options = names.map(
    (each) => `<option value="${escapeHtml(each.replaceAll(SEPARATOR, ', '))}"></option>`,
  );
  return (
    `<form class="filter" method="get" action="${escapeHtml(runPath(key))}/adgroup" role="search">` +
    `${hidden}<label>One of ${formatCount(count)} test adgroups${within}<input name="name" list="names" value="${escapeHtml((name ?? '').replaceAll(SEPARATOR, ', '))}"></label>` +
    `<datalist id="names">${options.join('')}</datalist><button>Show</button></form>`
  );
}

function contentHtml(key: string, name: string | null, adgroups: EvaluatedAdgroups | null): string {
  if (adgroups === null)
    return nothing(
      'Single adgroups are in the output of an evaluation: run `qianmo evaluate`, which judges the adgroups of the test split.',
    );
  if (name === null) return largestHtml(key, adgroups);
  if (adgroups.found === null)
    return nothing(
      adgroups.segments.length === 0
        ? 'The evaluation has no test adgroup of this name. Those of other splits are not in it.'
        : 'No segment has a test adgroup of this name. Those of other splits were not evaluated.',
    );
  return foundHtml(adgroups.found);
}

function largestHtml(key: string, { largest, count, segment }: EvaluatedAdgroups): string {
  const [first] = largest;
  if (first === undefined) return nothing('The evaluation has no test adgroup.');
  return sectionHtml(
    'Largest adgroups',
    regionTable({
      label: 'Largest adgroups',
      columns: [
        ['adgroup', 'text'],
        ['support rows'],
        ['impressions'],
        [first.loss === 'logloss' ? 'clicks' : 'sum of values'],
        [`query ${first.loss} before`],
        ['after adaptation'],
        ['distance'],
      ],
      rows: largest.map((adgroup) => largestRow(key, segment, adgroup)),
    }),
    largest.length < count
      ? `${formatCount(largest.length)} of ${formatCount(count)} test adgroups, by the impressions of their query rows.`
      : 'By the impressions of their query rows.',
  );
}

function largestRow(key: string, segment: string | null, adgroup: NamedAdgroup): Cell[] {
  const { name, supportRowCount, impressions, clicks } = adgroup;
  const query = new URLSearchParams({ ...(segment === null ? {} : { segment }), name }).toString();
  return [
    link(`${runPath(key)}/adgroup?${query}`, name.replaceAll(SEPARATOR, ', ')),
    ...[supportRowCount, impressions, clicks].map(formatCount),
    ...['meta-unadapted', 'meta-adapted'].map((arm) => lossOf(adgroup, arm)?.toFixed(4) ?? '-'),
    adgroup.adaptation === null ? '-' : distanceText(adgroup.adaptation.distance),
  ];
}

function lossOf({ arms }: EvaluatedAdgroup, wanted: string): number | null {
  return arms.find(({ arm }) => arm === wanted)?.queryLoss ?? null;
}

function foundHtml(found: EvaluatedAdgroup): string {
  const { supportRowCount, queryRowCount, impressions, clicks, loss, arms } = found;
  const [before, after] = [lossOf(found, 'meta-unadapted'), lossOf(found, 'meta-adapted')];
  const shown: [string, string, string?][] = [
    [formatCount(supportRowCount), 'support rows'],
    [formatCount(queryRowCount), 'query rows'],
    [formatCount(impressions), 'impressions', 'of the query rows'],
    [formatCount(clicks), loss === 'logloss' ? 'clicks' : 'sum of values'],
  ];
  if (before !== null) shown.push([before.toFixed(4), `query ${loss}`, 'before adaptation']);
  if (after !== null) shown.push([after.toFixed(4), `query ${loss}`, 'after adaptation']);
  const best = Math.min(...arms.map(({ queryLoss }) => queryLoss));
  return (
    facts(shown) +
    sectionHtml(
      'Arms',
      regionTable({
        label: `Query ${loss} of each arm`,
        columns: [['arm', 'text'], [`query ${loss}`], ['above the best']],
        rows: arms.map(({ arm, queryLoss }) => [
          arm,
          queryLoss.toFixed(4),
          queryLoss === best ? 'best' : (queryLoss - best).toFixed(4),
        ]),
      }),
      'Means over the query rows. One adgroup is few rows: a difference here is mostly chance.',
    ) +
    adaptationHtml(found)
  );
}

function adaptationHtml({ adaptation, loss }: EvaluatedAdgroup): string {
  if (adaptation === null)
    return sectionHtml(
      'Adaptation',
      nothing(
        'Not recorded: the evaluation has no arm meta-adapted, or an earlier version wrote it. `qianmo evaluate` records it.',
      ),
    );
  const { supportLossBefore: before, supportLossAfter: after, distance, blocks } = adaptation;
  const lossText = (value: number | null): string => value?.toFixed(4) ?? '-';
  return sectionHtml(
    'Adaptation',
    facts([
      [lossText(before), `support ${loss}`, 'before adaptation'],
      [lossText(after), `support ${loss}`, 'after adaptation'],
      [distanceText(distance), 'distance', 'of its personal blocks from their start'],
    ]) +
      regionTable({
        label: 'Distances of personal blocks from their start',
        columns: [['personal block', 'text'], ['distance']],
        rows: blocks.map((block) => [block.variable, distanceText(block.distance)]),
      }),
    'As the arm meta-adapted adapts it. Losses are means over the rows that it adapts on; distances are L2 norms of what adaptation adds.',
  );
}

function distanceText(distance: number): string {
  return distance === 0 ? '0' : distance.toPrecision(3);
}

function servedHtml(asked: readonly AskedServer[] | null): string {
  if (asked === null)
    return sectionHtml(
      'On ranking servers',
      nothing(
        'Not known: this dashboard was told of no ranking server. Give `--rankings` with the addresses of servers that explore.',
      ),
    );
  const table = regionTable({
    label: 'On ranking servers',
    columns: [
      ['server', 'text'],
      ['impressions'],
      ['share of all'],
      ['explored'],
      ['mean propensity'],
      ['outcomes per impression'],
      ['settled'],
      ['first, UTC', 'text'],
    ],
    rows: asked.map(servedRow),
  });
  return sectionHtml(
    'On ranking servers',
    table,
    'Impressions that feedback reported to servers that explore. Servers that share their evidence say the same. An outcome counts when its impression has settled.',
  );
}

function servedRow({ address, served, failure }: AskedServer): Cell[] {
  if (served === null) return [address, `unknown: ${failure}`, '-', '-', '-', '-', '-', '-'];
  const { impressions, rewards, firstMs, served: own, all } = served;
  const shareOf = (part: number, whole: number): string =>
    whole === 0 ? '-' : formatShare(part / whole);
  return [
    address,
    formatCount(own.impressions),
    shareOf(own.impressions, all.impressions),
    shareOf(own.explored, own.impressions),
    own.impressions === 0 ? '-' : (own.propensities / own.impressions).toFixed(3),
    impressions === 0 ? '-' : (rewards / impressions).toFixed(4),
    formatCount(impressions),
    firstMs === null ? '-' : timeText(firstMs),
  ];
}
