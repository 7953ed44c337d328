/** The report of a market as one self-contained HTML page. */

import { at } from '../../../shared/base/arrays.js';
import { MARKET_ARMS, type MarketArm } from '../../market/arm-outcome.js';
import type { MarketReport } from '../../market/market-report.js';
import { smallAdvertisers } from '../../market/market-bar.js';
import { escapeHtml } from '../html-text.js';
import { bandChart } from '../page/band-chart.js';
import { intervalChart } from '../page/chart-drawing.js';
import { card, factsHtml, pageHtml, section } from '../page/page-frame.js';
import { htmlTable } from '../table.js';
import { formatCount } from '../text-format.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import { classesTable, CLASSES_LEGEND } from './classes-table.js';
import { barSentence, differencesTable, meansTable } from './market-table.js';
import { counted } from '../../../shared/names/counted.js';

const COLOURS: Readonly<Record<MarketArm, string>> = {
  global: 'var(--arm-global)',
  qianmo: 'var(--arm-finetuned)',
  'qianmo-exploring': 'var(--arm-meta-adapted)',
  oracle: 'var(--arm-oracle)',
};

export function marketHtml(report: MarketReport): string {
  const title = `Market ${escapeHtml(report.market)}`;
  return pageHtml(title, [
    headerHtml(report, title),
    barHtml(report),
    section(
      'What the arms did',
      'Means over seeds. Every arm serves the same auctions, with the same draws behind clicks. Predicted / true compares the probabilities of what was shown.',
      card(htmlTable(meansTable(report))),
    ),
    section(
      'Difference from global',
      'Paired by seed, with 95 % intervals over seeds (Student). Counts as a part of those of global, shares in points of a hundred. A colour is given only where the interval excludes 0.',
      card(htmlTable(differencesTable(report), 'tight')),
    ),
    section(
      'Budgets by size of the advertiser',
      'Small and large are the advertisers with least and most budget. Budget and matching traffic grow alike with size, so that the market itself favours no size.',
      card(budgetChart(report)),
    ),
    section(
      'Who wins what',
      CLASSES_LEGEND,
      card(htmlTable(classesTable(report), 'tight')) +
        `<ul>${Object.values(smallAdvertisers(report.classes))
          .map((sentence) => `<li>${escapeHtml(sentence)}</li>`)
          .join('')}</ul>`,
    ),
    section(
      'Clicks by day',
      'Clicks of each day, minus those of global, as a part of them.',
      card(dailyChart(report)),
    ),
    section(
      'Good new adgroups',
      'The share that is found within so many hours of their arrival, of those that had so long. Found: as often as configured, it won an auction in which it was truly best, without exploration.',
      card(foundChart(report)),
    ),
    section('The market', '', card(factsOf(report))),
  ]);
}

function headerHtml(report: MarketReport, title: string): string {
  const mean = (interval: Interval | null): string =>
    interval === null ? '-' : formatCount(interval.value);
  return (
    `<header><h1>${title}</h1><p>${escapeHtml(report.setting)} synthetic world, means over ` +
    `${counted(report.seeds.length, 'seed')}</p></header>\n` +
    factsHtml([
      [formatCount(report.seeds.length), 'seeds'],
      [formatCount(report.days * report.auctionsPerDay), 'auctions each'],
      [mean(report.advertisers), 'advertisers'],
      [mean(report.newAdgroups), 'new adgroups'],
      [mean(report.goodAdgroups), 'good ones among them'],
    ])
  );
}

function barHtml({ bar }: MarketReport): string {
  const items = bar.map(
    (item) =>
      `<li class="${item.holds ? 'better' : 'worse'}">${escapeHtml(barSentence(item))}</li>`,
  );
  return `<h2>In short</h2><ul class="verdicts">${items.join('')}</ul>`;
}

function budgetChart({ measures }: MarketReport): string {
  const classes = ['small', 'medium', 'large'];
  return intervalChart({
    categories: classes,
    categoryTitle: 'advertisers',
    valueTitle: 'spent, as a part of the budget',
    series: MARKET_ARMS.map((arm) => ({
      ...{ name: arm, colour: COLOURS[arm] },
      intervals: classes.map((sizeClass) => {
        const measure = measures.find(({ id }) => id === `${sizeClass}Spent`);
        return measure?.arms.find((each) => each.arm === arm)?.mean ?? null;
      }),
    })),
  });
}

function dailyChart({ dailyClicks, days }: MarketReport): string {
  return bandChart({
    categories: Array.from({ length: days }, (_, day) => String(day + 1)),
    categoryTitle: 'day of the market',
    valueTitle: 'clicks compared with global',
    withZero: true,
    series: dailyClicks
      .filter(({ arm }) => arm !== 'oracle')
      .map(({ arm, byDay }) => ({ name: arm, colour: COLOURS[arm], intervals: byDay })),
  });
}

function foundChart({ foundWithin: { hours, arms } }: MarketReport): string {
  return bandChart({
    categories: hours.map(String),
    categoryTitle: 'hours since the arrival',
    valueTitle: 'share found',
    series: arms.map(({ arm, shares }) => ({
      ...{ name: arm, colour: COLOURS[arm] },
      intervals: hours.map((_, place) => at(shares, place)),
    })),
  });
}

function factsOf({ seeds, configDigest, scorer }: MarketReport): string {
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  return (
    `<dl><dt>seeds</dt><dd>${seeds.join(', ')}</dd><dt>scored by</dt><dd>${escapeHtml(scorer)}</dd>` +
    `<dt>config</dt><dd>${code(configDigest)}</dd></dl>`
  );
}
