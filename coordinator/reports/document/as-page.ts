/** Writes blocks of a document as HTML, and a whole document as one self-contained page. */

import { drawChart } from './charts.js';
import { columnsOn } from './as-text.js';
import {
  markedCell,
  piecesOf,
  type Block,
  type Cell,
  type Chart,
  type Document,
  type Figure,
  type Form,
  type Piece,
  type Table,
  type TableColumn,
  type Text,
} from './document.js';

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** One file with its style inside, which references nothing external. */
export function asPage({ title = '', subtitle, blocks }: Document): string {
  const below = subtitle === undefined ? '' : `<p>${textHtml(subtitle)}</p>`;
  return htmlDocument(
    title,
    `<style>${PAGE_STYLE}</style>`,
    `<main>\n<header><h1>${escapeHtml(title)}</h1>${below}</header>\n${blocksHtml(blocks)}\n</main>`,
  );
}

export function htmlDocument(title: string, head: string, body: string): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    `<title>${escapeHtml(title)} · qianmo</title>\n${head}\n</head>\n<body>\n${body}\n</body>\n</html>\n`
  );
}

export function blocksHtml(blocks: readonly Block[], level = 2): string {
  return blocks.map((block) => blockHtml(block, level)).join('\n');
}

function blockHtml(block: Block, level: number): string {
  if ('on' in block && block.on === 'terminal') return '';
  switch (block.kind) {
    case 'facts':
      return factsHtml(block);
    case 'fields':
      return `<div class="card"><dl>${block.fields.map(([name, value]) => `<dt>${textHtml(name)}</dt><dd>${textHtml(value)}</dd>`).join('')}</dl></div>`;
    case 'table':
      return regionHtml('card scroll', block.label, tableHtml(block.table));
    case 'figure':
      return figureHtml(block);
    case 'figures':
      return `<div class="charts">${block.figures.map(figureHtml).join('')}</div>`;
    case 'text':
      return `<p class="${block.look ?? 'text'}">${textHtml(block.text)}</p>`;
    case 'list': {
      const list = `<ul>${block.items.map((item) => `<li>${textHtml(item)}</li>`).join('')}</ul>`;
      return block.label === undefined ? list : regionHtml('card scroll log', block.label, list);
    }
    case 'links':
      return `<nav class="choices" aria-label="${escapeHtml(block.label)}">${textHtml(block.links)}</nav>`;
    case 'progress': {
      const { label, done, total } = block;
      return `<progress max="${total}" value="${done}" aria-label="${escapeHtml(label)}">${done} of ${total}</progress>`;
    }
    case 'details':
      return `<details><summary>${escapeHtml(block.summary)}</summary>${blocksHtml(block.blocks, level)}</details>`;
    case 'form':
      return formHtml(block);
    case 'section': {
      const content = blocksHtml(block.blocks, level + 1);
      const note = textHtml(block.note);
      if (content === '') return '';
      const head = `<h${level}>${escapeHtml(block.title)}</h${level}>`;
      return `<section>${head}${note === '' ? '' : `<p class="note">${note}</p>`}${content}</section>`;
    }
  }
}

/** The text of one line; commands between backticks become code. */
function textHtml(text: Text): string {
  return piecesOf(text).map(pieceHtml).join('');
}

/** A table with more columns has smaller print. */
const PLAIN_COLUMNS_MAX = 9;

const TAGS = { code: 'code', small: 'small', strong: 'b', time: 'time' } as const;

function pieceHtml({ text, on, style, href, isCurrent, dot, badge }: Piece): string {
  if (on === 'terminal') return '';
  const mark = dot === undefined ? '' : `<span class="dot" style="background:${dot}"></span>`;
  const plain = escapeHtml(text);
  let html = style === 'code' ? plain : plain.replace(/`([^`]+)`/g, '<code>$1</code>');
  if (style === 'warning' || style === 'none') html = `<span class="${style}">${html}</span>`;
  else if (style !== undefined) html = `<${TAGS[style]}>${html}</${TAGS[style]}>`;
  if (badge !== undefined) html = `<span class="state ${badge}">${html}</span>`;
  if (href !== undefined)
    html = `<a ${isCurrent === true ? 'aria-current="true" ' : ''}href="${escapeHtml(href)}">${html}</a>`;
  return mark + html;
}

function factsHtml({ facts }: Extract<Block, { kind: 'facts' }>): string {
  const boxes = facts.map(
    ([value, name, small]) =>
      `<div><b>${escapeHtml(value)}</b><span>${escapeHtml(name)}</span>` +
      `${small === undefined ? '' : `<small>${escapeHtml(small)}</small>`}</div>`,
  );
  return boxes.length === 0 ? '' : `<div class="facts">${boxes.join('')}</div>`;
}

/** A region that scrolls by itself, and can be reached by keyboard. */
function regionHtml(className: string, label: string, content: string): string {
  return `<div class="${className}" role="region" aria-label="${escapeHtml(label)}" tabindex="0">${content}</div>`;
}

function tableHtml(table: Table): string {
  const { columns, rows } = columnsOn('page', table);
  const classOf = ({ align }: TableColumn): string =>
    align === undefined ? '' : ` class="${align === 'wrap' ? 'text wrap' : 'text'}"`;
  const heads = columns.map((column) => {
    const { title, unit = '' } = column;
    const below = unit === '' ? '' : `<small>${escapeHtml(unit)}</small>`;
    return `<th scope="col"${classOf(column)}>${escapeHtml(title)}${below}</th>`;
  });
  const body = rows.map((row) => {
    const cells = columns.map((column, index) =>
      cellHtml(row[index] ?? '', classOf(column), index),
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  const hasHeads = columns.some(({ title }) => title !== '');
  const head = hasHeads ? `<thead><tr>${heads.join('')}</tr></thead>` : '';
  const dense = columns.length > PLAIN_COLUMNS_MAX ? ' class="dense"' : '';
  return `<table${dense}>${head}<tbody>${body.join('')}</tbody></table>`;
}

function cellHtml(cell: Cell, columnClass: string, index: number): string {
  const isForm = typeof cell === 'object' && 'kind' in cell;
  const { cell: content, emphasis } = isForm ? { cell: '' } : markedCell(cell);
  const html = isForm ? formHtml(cell) : textHtml(content);
  if (index === 0) return `<th scope="row"${columnClass}>${html}</th>`;
  return `<td${emphasis === undefined ? columnClass : ` class="${emphasis}"`}>${html}</td>`;
}

function figureHtml({ title, summary = '', panels, table }: Figure): string {
  const drawn = panels.map(({ title: name, note = '', chart }) => {
    const label = name === undefined ? `${title}. ${summary}` : `${title}: ${name}`;
    const svg = drawChart(chart).replace(
      '<svg',
      `<svg role="img" aria-label="${escapeHtml(label)}"`,
    );
    if (name === undefined) return svg;
    return `<div><h3>${escapeHtml(name)} <span>${escapeHtml(note)}</span></h3>${svg}</div>`;
  });
  const [first] = panels;
  const isWide = first === undefined || first.chart.size !== 'half';
  const drawing =
    panels.length > 1 ? `<div class="multiples">${drawn.join('')}</div>` : drawn.join('');
  const values =
    table === undefined
      ? ''
      : `<details><summary>Table</summary>${regionHtml('scroll', `Values of the drawing: ${title}`, tableHtml(table))}</details>`;
  return (
    `<figure${isWide ? ' class="wide"' : ''}><figcaption>${escapeHtml(title)}` +
    `${summary === '' ? '' : `<span>${escapeHtml(summary)}</span>`}</figcaption>` +
    `${first === undefined ? '' : legendHtml(first.chart)}${regionHtml('drawing', `Drawing: ${title}`, drawing)}${values}</figure>`
  );
}

function legendHtml({ series }: Chart): string {
  const named = new Map(
    series
      .filter(({ look }) => look !== 'faint' && look !== 'guide')
      .map(({ name, color, look }) => [`${name}${look === 'dashed' ? ' (dashed)' : ''}`, color]),
  );
  if (named.size < 2) return '';
  const items = [...named].map(([text, dot]) => `<span>${pieceHtml({ text, dot })}</span>`);
  return `<div class="legend">${items.join('')}</div>`;
}

function formHtml({ action, method, hidden = {}, fields = [], buttons }: Form): string {
  const inputs = Object.entries(hidden).map(
    ([name, value]) => `<input type="hidden" name="${name}" value="${escapeHtml(value)}">`,
  );
  const labels = fields.map(({ label, name, value, options, isText = false }) => {
    const each = (options ?? []).map((option) =>
      typeof option === 'string' ? { value: option, text: option } : option,
    );
    const items = each.map((option) => {
      const isChosen = !isText && option.value === value;
      return `<option value="${escapeHtml(option.value)}"${isChosen ? ' selected' : ''}>${escapeHtml(option.text)}</option>`;
    });
    if (!isText)
      return `<label>${escapeHtml(label)}<select name="${name}">${items.join('')}</select></label>`;
    const list = items.length === 0 ? '' : ` list="${name}-options"`;
    const suggestions =
      items.length === 0 ? '' : `<datalist id="${name}-options">${items.join('')}</datalist>`;
    return `<label>${escapeHtml(label)}<input name="${name}"${list} value="${escapeHtml(value)}"></label>${suggestions}`;
  });
  const shown = buttons.map(({ text, name, value, label, isDanger = false }) => {
    const named = name === undefined ? '' : ` name="${name}" value="${escapeHtml(value ?? '')}"`;
    const aria = label === undefined ? '' : ` aria-label="${escapeHtml(label)}"`;
    return `<button${named}${isDanger ? ' class="danger"' : ''}${aria}>${escapeHtml(text)}</button>`;
  });
  const look = method === 'get' ? 'class="filter" role="search"' : 'class="orders"';
  return `<form ${look} method="${method}" action="${escapeHtml(action)}">${inputs.join('')}${labels.join('')}${shown.join('')}</form>`;
}

export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2129; --ink-2: #5a6270; --rule: #e3e1dc;
  --accent: #5a3fd0; --good: #0b7a4b; --bad: #b3261e; --wait: #9a5b00; --state-tint: 9%;
  --arm-constant: #9aa0aa; --arm-global: #3f6fb5; --arm-global-shift: #c77700;
  --arm-finetuned: #0b8a7d; --arm-meta-unadapted: #b06bd0; --arm-meta-adapted: #5a3fd0;
  --arm-crowd-unadapted: #7a5c3a; --arm-crowd-adapted: #2f7d32;
  --arm-meta-chosen: #c2306e; --arm-blend: #6b7d1f; --arm-oracle: #1d2129;
  --run-0: #5a6270; --run-1: #5a3fd0; --run-2: #0b8a7d; --run-3: #c77700; --run-4: #3f6fb5;
  --run-5: #b3407f; --run-6: #6b8e23; --run-7: #8a5a3c;
  --phase-0: #7d8794; --phase-1: #b48a5a; --phase-2: #c77700; --phase-3: #0b8a7d; --phase-4: #5a3fd0;
  --phase-5: #3f6fb5; --phase-6: #6b8e23; --phase-7: #b3407f; --phase-8: #2f9e63;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161b; --card: #1c1f26; --ink: #e9e7e2; --ink-2: #a5adba; --rule: #333843;
    --accent: #a492ff; --good: #58c894; --bad: #ff8a80; --wait: #f0b45c; --state-tint: 13%;
    --arm-constant: #8a909c; --arm-global: #74a7f2; --arm-global-shift: #f0a840;
    --arm-finetuned: #45c9b8; --arm-meta-unadapted: #d79cf2; --arm-meta-adapted: #a492ff;
    --arm-crowd-unadapted: #cfa878; --arm-crowd-adapted: #81c784;
    --arm-meta-chosen: #ff86b0; --arm-blend: #bccf62; --arm-oracle: #e9e7e2;
    --run-0: #a5adba; --run-1: #a492ff; --run-2: #45c9b8; --run-3: #f0a840; --run-4: #74a7f2;
    --run-5: #ee86bd; --run-6: #a9cf5a; --run-7: #c9936f;
    --phase-0: #9aa4b2; --phase-1: #cfa878; --phase-2: #f0a840; --phase-3: #45c9b8; --phase-4: #a492ff;
    --phase-5: #74a7f2; --phase-6: #a9cf5a; --phase-7: #ee86bd; --phase-8: #58c894;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 26px 20px 80px; }
main:focus { outline: none; }
a { color: var(--accent); text-underline-offset: 2px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.scroll:focus-visible { outline-offset: -2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 8px; z-index: 2; background: var(--card); padding: 6px 12px; }
.top { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 22px; padding: 12px 20px;
  border-bottom: 1px solid var(--rule); background: var(--card); }
.top .name { font-weight: 700; text-decoration: none; color: var(--ink); letter-spacing: -0.01em; }
.top nav { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.top nav a { color: var(--ink-2); text-decoration: none; padding: 3px 0; }
.top nav a:hover { color: var(--ink); }
.top nav a[aria-current] { color: var(--ink); font-weight: 600; border-bottom: 2px solid var(--accent); }
#connection { margin-left: auto; color: var(--ink-2); font-size: 13.5px; }
#connection.lost { color: var(--bad); }
header p { margin: 4px 0 0; color: var(--ink-2); }
h1 { font-size: 30px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 4px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 12px 0; overflow-wrap: anywhere; }
.note { color: var(--ink-2); margin: 0 0 14px; max-width: 78ch; font-size: 14.5px; }
.note::first-letter { text-transform: uppercase; }
.facts + p { margin-top: 12px; }
.none { color: var(--ink-2); }
.crumbs { font-size: 14px; color: var(--ink-2); margin: 0 0 4px; }
.part:empty { display: none; }
p.better, p.worse, p.undecided, p.reason { background: var(--card); border: 1px solid var(--rule);
  border-left: 4px solid var(--ink-2); border-radius: 6px; padding: 10px 14px; margin: 8px 0 0; }
p.better { border-left-color: var(--good); }
p.worse, p.reason { border-left-color: var(--bad); }
p.reason { white-space: pre-wrap; }
.state { display: inline-block; font-size: 13.5px; font-weight: 600; line-height: 1; padding: 5px 10px;
  border-radius: 999px; color: var(--tone); white-space: nowrap;
  background: color-mix(in srgb, var(--tone) var(--state-tint), transparent); --tone: var(--ink-2); }
.state.good { --tone: var(--good); } .state.bad { --tone: var(--bad); }
.state.wait { --tone: var(--wait); } .state.live { --tone: var(--accent); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 12px;
  margin: 18px 0 0; }
.facts div, .card, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.facts div { padding: 12px 16px; }
.facts b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; line-height: 1.3;
  overflow-wrap: anywhere; }
.facts span { color: var(--ink-2); font-size: 13.5px; }
.facts small { display: block; font-size: 12.5px; color: var(--ink-2); }
.facts + .card { margin-top: 12px; }
progress { appearance: none; display: block; width: 100%; height: 8px; border: 0; border-radius: 4px;
  overflow: hidden; background: var(--rule); margin: 18px 0 0; }
progress::-webkit-progress-bar { background: var(--rule); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.card { padding: 10px 18px; }
.card + .card, .card + .note, .card + .none, .card + figure, figure + .card, figure + figure { margin-top: 12px; }
.scroll { overflow-x: auto; }
.card.scroll { background: linear-gradient(90deg, var(--card) 30%, transparent) left / 48px 100% local,
  linear-gradient(270deg, var(--card) 30%, transparent) right / 48px 100% local,
  linear-gradient(90deg, var(--rule), transparent) left / 14px 100% scroll,
  linear-gradient(270deg, var(--rule), transparent) right / 14px 100% scroll, var(--card);
  background-repeat: no-repeat; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14.5px; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; vertical-align: top; }
th.text, td.text { text-align: left; }
thead th { color: var(--ink-2); font-weight: 500; border-bottom: 1px solid var(--rule); vertical-align: bottom; }
th small { display: block; font-weight: 400; font-size: 12px; }
tbody th { font-weight: 500; }
th:first-child { text-align: left; padding-left: 0; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 90px; }
table.dense { font-size: 13.5px; }
.dense th, .dense td { padding: 6px 5px; }
.dense .wrap { min-width: 60px; }
td small { color: var(--ink-2); font-size: 12.5px; }
td.best { font-weight: 700; color: var(--accent); }
td.chosen { outline: 2px solid var(--accent); outline-offset: -2px; font-weight: 700; }
td.better { color: var(--good); } td.worse { color: var(--bad); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 26px; font-size: 14px; color: var(--ink-2); margin: 0 0 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; }
.charts figure + figure { margin-top: 0; }
figure { margin: 0; padding: 14px 16px 10px; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-weight: 600; font-size: 15px; margin: 0 0 8px; }
figcaption span { display: block; font-weight: 400; color: var(--ink-2); font-size: 13.5px; }
.drawing { overflow-x: auto; }
.drawing svg { min-width: 420px; } figure.wide .drawing svg { min-width: 640px; }
.drawing:has(.multiples) { overflow: visible; }
.multiples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 10px 18px; }
.multiples h3 { margin: 6px 0 0; font-size: 14px; font-weight: 600; }
.multiples h3 span { font-weight: 400; color: var(--ink-2); }
figure.wide .multiples svg { min-width: 0; max-width: 460px; }
figure details .scroll { max-height: 320px; overflow: auto; margin-top: 8px; }
svg { display: block; width: 100%; height: auto; }
details { margin: 12px 0 0; }
summary { cursor: pointer; color: var(--ink-2); font-size: 14.5px; }
details .card { margin-top: 10px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 22px; margin: 0; font-size: 14.5px; }
dt { color: var(--ink-2); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.log { max-height: 460px; overflow: auto; }
.log ul { list-style: none; margin: 0; padding: 0; font-size: 14px; }
.log li { overflow-wrap: anywhere; } .log time { color: var(--ink-2); margin-right: 10px; }
.warning { color: var(--wait); }
nav.choices { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 14px; margin: 14px 0 0; color: var(--ink-2); }
nav.choices a[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; border-bottom: 2px solid var(--accent); }
.orders { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0 0; }
td .orders { flex-wrap: nowrap; gap: 8px; margin: 0; }
td .orders button { padding: 1px 10px; font-size: 14px; }
button, input, select { font: inherit; color: var(--ink); background: var(--card);
  border: 1px solid var(--ink-2); border-radius: 8px; padding: 6px 14px; max-width: 100%; }
button { cursor: pointer; } button:hover { border-color: var(--accent); color: var(--accent); }
button.danger { color: var(--bad); border-color: var(--bad); }
form.filter { display: flex; flex-wrap: wrap; gap: 10px; align-items: end; margin: 18px 0 14px; }
form.filter :is(input, select, button) { font-size: 15px; height: 38px; }
form.filter label { display: grid; gap: 3px; font-size: 13.5px; color: var(--ink-2); min-width: 0; }
@media (max-width: 520px) {
  .card { padding: 8px 12px; } .facts b { font-size: 19px; }
  .top nav { order: 1; width: 100%; }
  .wrap { min-width: 240px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
}
@media print { main { padding: 0; } .card, .facts div { break-inside: avoid; } }
`;
