"""The frame of the page: layout and colours. Nothing is loaded from anywhere."""

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { color-scheme: light dark; --page: #ffffff; --text: #1d2127; --soft: #5c6470; --line: #d7dbe1; --panel: #f5f6f8;
  --link: #1f5fa8; --wrong: #c62828; --right-rgb: 46, 125, 80; --wrong-rgb: 198, 60, 50; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181d; --text: #e4e7eb; --soft: #a3abb7; --line: #363c46; --panel: #1e2229; --link: #8bbcf2;
    --right-rgb: 60, 150, 100; --wrong-rgb: 210, 80, 70; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 70rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: 1.3rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
figcaption { color: var(--soft); font-size: .9rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: .8rem; }
code { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .05em .3em;
  font-size: .87em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: .9rem; vertical-align: bottom; }
tbody th { white-space: nowrap; }
th:first-child { text-align: left; }
tr.first-average > * { border-top: 2px solid var(--line); }
table.facts th { color: var(--soft); font-weight: 400; vertical-align: top; }
table.facts td { text-align: left; overflow-wrap: anywhere; }
table.matrix th, table.matrix td { border: 1px solid var(--line); }
table.matrix thead th { font-weight: 600; max-width: 7.5rem; }
table.matrix .aside { font-weight: 400; color: var(--soft); font-size: .85rem; }
table.matrix .none { color: var(--soft); }
figure { margin: .8rem 0; overflow-x: auto; }
figure svg { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figure.wide svg { max-width: none; }
.excerpt { margin: 1rem 0; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; break-inside: avoid; }
.excerpt header { padding: .3rem .8rem; background: var(--panel); border-bottom: 1px solid var(--line);
  font-size: .9rem; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
.sides > div { padding: .4rem .8rem .6rem; overflow-wrap: anywhere; }
.sides > div + div { box-shadow: -1px -1px 0 var(--line); }
.sides h4 { margin: 0; color: var(--soft); font-size: .8rem; font-weight: 600; }
.entities { line-height: 2.1 !important; }
mark.entity { color: #16191d; padding: .2em .4em; border-radius: .35em; border: 2px solid transparent;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
mark.wrong { border: 2px dashed var(--wrong); }
mark.open { opacity: .65; }
mark .label { font-size: .72em; font-weight: 700; }
mark .note { font-size: .72em; white-space: nowrap; }
mark.wrong .note { color: #8e1616; font-weight: 700; }
@media (max-width: 36rem) {
  body { padding: 1rem; }
  th, td { padding: .25rem .4rem; font-size: .88rem; }
}
@media print {
  :root { --page: #fff; --text: #000; --soft: #444; --line: #bbb; --panel: #f2f2f2; --link: #000;
    --right-rgb: 46, 125, 80; --wrong-rgb: 198, 60, 50; color-scheme: light; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  html { font-size: 11px; }
  body { padding: 0; max-width: none; font-size: 1rem; }
  nav { display: none; }
  h2, h3, section > p { break-after: avoid; }
  figure, table { break-inside: avoid; }
  figure.wide svg { max-width: 100%; }
  .scroll, figure { overflow: visible; }
}
</style>
</head>
<body>
<header>
<h1>$title</h1>
<nav>$links</nav>
</header>
<main>
$sections
</main>
</body>
</html>
""")
