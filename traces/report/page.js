"use strict";
// Draws the charts of a report as SVG. Colours are variables of the style sheet, so that nothing is drawn anew when the
// reader switches to dark or prints. `modules` holds Vega's modules by name.
(() => {
  const errors = [];
  const root = document.documentElement;
  window.addEventListener("error", (event) => errors.push(String(event.message)));
  window.addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));

  const theme = new URLSearchParams(location.search).get("theme");
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;

  const transforms = modules["vega-dataflow"].transforms;
  for (const name of ["vega-transforms", "vega-view-transforms", "vega-encode"]) Object.assign(transforms, modules[name]);

  const font = 'system-ui, "DejaVu Sans", sans-serif';
  const config = {
    background: null,
    aria: false,  // the element around the drawing describes it
    axis: {
      labelFont: font, titleFont: font, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500, titlePadding: 8,
      labelColor: "var(--ink2)", titleColor: "var(--ink2)", domainColor: "var(--line)", tickColor: "var(--line)",
      grid: true, gridColor: "var(--grid)",
    },
    text: { font: font, fontSize: 11 },
    view: { stroke: null },
  };

  const widthOf = (element) => Math.max(220, Math.floor(element.clientWidth));

  function addChoice(figure, view, choice) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.append(choice.label + ": ", select);
    choice.options.forEach((text, i) => select.append(new Option(text, i)));
    select.addEventListener("change", () => view.signal(choice.signal, Number(select.value)).runAsync());
    figure.querySelector(".choice").append(label);
  }

  async function draw(chart) {
    const figure = document.getElementById(chart.id);
    const plot = figure.querySelector(".plot");
    try {
      // The interpreter instead of compiled expressions: the page forbids eval.
      const view = new modules["vega-view"].View(modules["vega-parser"].parse(chart.spec, config, { ast: true }), {
        renderer: "svg", container: plot, hover: false, expr: modules["vega-interpreter"].expressionInterpreter,
        logLevel: modules["vega-util"].Warn,
      });
      await view.width(widthOf(plot)).runAsync();
      if (chart.choice) addChoice(figure, view, chart.choice);
      let shown = widthOf(plot);
      new ResizeObserver(() => {
        if (matchMedia("print").matches || widthOf(plot) === shown) return;
        shown = widthOf(plot);
        view.width(shown).runAsync();
      }).observe(plot);
      return 1;
    } catch (error) {
      errors.push(chart.id + ": " + error);
      plot.textContent = "This chart could not be drawn: " + error;
      plot.classList.add("failed");
      return 0;
    }
  }

  const charts = JSON.parse(document.getElementById("charts").textContent);
  Promise.all(charts.map(draw)).then((drawn) => {
    // For tests.
    root.dataset.drawn = drawn.reduce((sum, one) => sum + one, 0);
    root.dataset.errors = JSON.stringify(errors);
  });
})();
