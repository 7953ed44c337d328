/** The page of one adgroup of a run: what an evaluation says about it, and what no record says. */

import { escapeHtml } from '../../reports/html-text.js';
import { formatCount } from '../../reports/text-format.js';
import type {
  EvaluatedAdgroup,
  EvaluatedAdgroups,
  NamedAdgroup,
} from '../catalog/evaluated-adgroup.js';
import { facts, link, nothing, regionTable, runPath, sectionHtml, type Cell } from './elements.js';
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
}

export function adgroupPage({ key, run, name, adgroups }: ShownAdgroup): Page {
  const title = name === null ? 'Adgroups' : `Adgroup ${name.replaceAll(SEPARATOR, ', ')}`;
  const back = link(runPath(key), run).html;
  return {
    title: `${title}, ${run}`,
    place: '/runs',
    parts: [
      { id: 'head', html: `<p class="crumbs">${back}</p><h1>${escapeHtml(title)}</h1>` },
      { id: 'search', html: adgroups === null ? '' : formHtml(key, name, adgroups) },
      { id: 'adgroup', html: contentHtml(key, name, adgroups) },
    ],
  };
}

function formHtml(key: string, name: string | null, { names, count }: EvaluatedAdgroups): string {
  const options = names.map((each) => `<option value="${escapeHtml(each)}"></option>`);
  return (
    `<form class="filter" method="get" action="${escapeHtml(runPath(key))}/adgroup" role="search">` +
    `<label>One of ${formatCount(count)} test adgroups<input name="name" list="names" value="${escapeHtml(name ?? '')}"></label>` +
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
      'The evaluation has no test adgroup of this name. Those of other splits are not in it.',
    );
  return foundHtml(adgroups.found);
}

function largestHtml(key: string, { largest, count }: EvaluatedAdgroups): string {
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
      ],
      rows: largest.map((adgroup) => largestRow(key, adgroup)),
    }),
    largest.length < count
      ? `${formatCount(largest.length)} of ${formatCount(count)} test adgroups, by the impressions of their query rows.`
      : 'By the impressions of their query rows.',
  );
}

function largestRow(key: string, adgroup: NamedAdgroup): Cell[] {
  const { name, supportRowCount, impressions, clicks } = adgroup;
  const query = new URLSearchParams({ name }).toString();
  return [
    link(`${runPath(key)}/adgroup?${query}`, name.replaceAll(SEPARATOR, ', ')),
    ...[supportRowCount, impressions, clicks].map(formatCount),
    ...['meta-unadapted', 'meta-adapted'].map((arm) => lossOf(adgroup, arm)?.toFixed(4) ?? '-'),
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
    sectionHtml(
      'Not recorded',
      nothing(
        'Losses on the support rows of one adgroup, the distance of its personal blocks from their start, and its share of exploration and of served traffic are in no record of a run.',
      ),
    )
  );
}
