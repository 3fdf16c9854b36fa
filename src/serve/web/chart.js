// The bars of each day, present over absent, with a slider that chooses a range of days.

import { byId, h } from './dom.js';
import { day, integer, percent, shortDay } from './format.js';

const COLORS = { present: '#6dd3b0', absent: '#fdc553' };
const FONT = getComputedStyle(document.body).fontFamily;
const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;

/** Draws into `#chart`; `onRange` gets the first and last day that the slider shows, or nulls. */
export function startChart(onRange) {
  const chart = echarts.init(byId('chart'), null, { renderer: 'canvas' });
  const state = { days: [] };
  chart.setOption(frame(state));
  chart.on('datazoom', () => onRange(...rangeOf(chart, state.days)));
  new ResizeObserver(() => chart.resize()).observe(byId('chart'));
  byId('chart-data').addEventListener('toggle', () => showTable(state.days));

  return {
    /** Shows these days; the slider stays where it is. */
    show(days) {
      const isAnother = days.length !== state.days.length
        || days.some((one, index) => one.date !== state.days[index].date);
      state.days = days;
      chart.setOption({
        aria: { label: { description: summary(days) } },
        xAxis: { data: days.map((one) => one.date) },
        series: ['present', 'absent'].map((key) => ({ data: days.map((one) => one[key]) })),
      });
      showTable(days);
      return isAnother;
    },
    /** Moves the slider to a range of days; `null` is the first or last one. */
    zoom(since, until) {
      const { days } = state;
      const first = since ? days.findIndex((one) => one.date >= since) : 0;
      const last = until ? days.findLastIndex((one) => one.date <= until) : days.length - 1;
      const [startValue, endValue] = [Math.max(0, first), Math.max(0, last)];
      // As an option, not as an action: an action would be told as if a person had moved it.
      chart.setOption({ dataZoom: [{ startValue, endValue }] });
    },
  };
}

/** The range of days that is shown; `null` where the slider stands at an end. */
function rangeOf(chart, days) {
  const { startValue, endValue } = chart.getOption().dataZoom[0];
  return [
    startValue > 0 ? days[startValue].date : null,
    endValue < days.length - 1 ? days[endValue].date : null,
  ];
}

function frame(state) {
  const text = { fontFamily: FONT, color: '#566372' };
  const bar = (name, color) => ({
    name, type: 'bar', stack: 'day', data: [], itemStyle: { color }, barMaxWidth: 30,
  });
  return {
    animationDuration: 0,
    animationDurationUpdate: isCalm ? 0 : 150,
    aria: { enabled: true },
    textStyle: text,
    grid: { left: 8, right: 12, top: 38, bottom: 66, containLabel: true },
    legend: { top: 0, left: 0, icon: 'roundRect', itemWidth: 12, itemHeight: 12, textStyle: text },
    tooltip: {
      trigger: 'axis',
      renderMode: 'richText',
      axisPointer: { type: 'shadow' },
      confine: true,
      formatter: ([bars]) => (bars ? tooltip(state.days[bars.dataIndex]) : ''),
    },
    xAxis: {
      type: 'category', data: [], axisTick: { show: false }, axisLabel: { formatter: shortDay },
    },
    yAxis: { type: 'value', minInterval: 1, axisLabel: { formatter: integer } },
    dataZoom: [{
      type: 'slider',
      bottom: 8,
      height: 34,
      brushSelect: false,
      labelFormatter: (index, date) => (date ? shortDay(date) : ''),
      fillerColor: 'rgba(29, 79, 145, .12)',
      borderColor: '#dbe1e8',
    }],
    series: [bar('Присутствовало', COLORS.present), bar('Отсутствовало', COLORS.absent)],
  };
}

function tooltip({ date, present, absent, other }) {
  const whole = present + absent + other;
  return [
    day(date),
    `Присутствовало: ${integer(present)} (${percent(present, whole)})`,
    `Отсутствовало: ${integer(absent)}`,
    `Другие отметки: ${integer(other)}`,
  ].join('\n');
}

function summary(days) {
  if (days.length === 0) {
    return 'Столбики отметок по дням: данных нет.';
  }
  const sum = (key) => integer(days.reduce((total, one) => total + one[key], 0));
  return `Столбики отметок по дням с ${day(days[0].date)} по ${day(days.at(-1).date)}: `
    + `присутствовало ${sum('present')}, отсутствовало ${sum('absent')}. `
    + 'Те же данные — в таблице под графиком.';
}

/** The same data as a table, made only for those who open it. */
function showTable(days) {
  if (!byId('chart-data').open) {
    return;
  }
  const head = ['День', 'Присутствовало', 'Отсутствовало', 'Другие отметки'];
  const rows = days.map(({ date, present, absent, other }) => h('tr', {},
    h('th', { scope: 'row' }, day(date)),
    [present, absent, other].map((count) => h('td', { class: 'number' }, integer(count)))));
  byId('chart-table').replaceChildren(h('table', { class: 'data' },
    h('thead', {}, h('tr', {}, head.map((name, index) => h('th', {
      scope: 'col', class: index > 0 && 'number',
    }, name)))),
    h('tbody', {}, rows)));
}
