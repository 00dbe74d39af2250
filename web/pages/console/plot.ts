// A plot of the last minutes: a line for each node. uPlot draws it; the numbers of now are in the words beside it.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { h } from "../shell/dom.js";
import type { Model, Series } from "./model.js";

/** Colours of the lines, in light and in dark: three to one against either ground. */
const colours: ReadonlyArray<readonly [string, string]> = [
  ["#1f5ae0", "#86aaff"], ["#b3461e", "#f0a05a"], ["#14713d", "#5fd08d"], ["#8b2fa8", "#d49be8"], ["#6b5a00", "#d8c24a"], ["#00707a", "#58c7d2"], ["#a01d5b", "#f08ab8"],
];

const dark = (): boolean => document.documentElement.dataset.theme === "dark" || (document.documentElement.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);

export class Plot {
  readonly element: HTMLElement;
  private readonly box = h("div", { class: "plot" });
  private readonly legend = h("p", { class: "legend" });
  private plot: uPlot | undefined;
  private shape = "";
  private readonly resize: ResizeObserver;

  constructor(private readonly title: string, private readonly of: (s: Series) => number[], private readonly short: (n: number) => string) {
    this.box.setAttribute("role", "img");
    this.element = h("section", { class: "panel" }, h("h2", {}, title), this.box, this.legend);
    this.resize = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.resize.observe(this.box);
  }

  close(): void {
    this.resize.disconnect();
    this.plot?.destroy();
  }

  /** Draws the nodes of that name, all if there is none. */
  show(m: Model, only?: string): void {
    const names = [...m.series.keys()].filter((n) => !only || n === only);
    const data = [m.times, ...names.map((n) => this.of(m.series.get(n)!))] as uPlot.AlignedData;
    const shape = `${names.join("\n")} ${dark()}`;
    if (shape !== this.shape) {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = this.make(names, data);
      this.legend.replaceChildren(...names.flatMap((n, i) => [this.key(i), h("span", { class: "series", data: { node: n } })]));
    } else {
      this.plot?.setData(data);
    }
    const texts = names.map((n) => `${n} ${this.short(this.of(m.series.get(n)!).at(-1) ?? 0)}`);
    this.legend.querySelectorAll(".series").forEach((e, i) => (e.textContent = texts[i]!));
    this.box.setAttribute("aria-label", `${this.title}: ${texts.join(", ")}`);
  }

  private colour(i: number): string {
    return colours[i % colours.length]![dark() ? 1 : 0];
  }

  private key(i: number): SVGElement {
    const s = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    s.setAttribute("viewBox", "0 0 12 12");
    s.setAttribute("class", "key");
    s.setAttribute("aria-hidden", "true");
    const r = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [k, v] of Object.entries({ y: "4", width: "12", height: "4", rx: "2", fill: this.colour(i) })) r.setAttribute(k, v);
    s.append(r);
    return s;
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(160, this.box.clientWidth), height: 150 };
  }

  private make(names: string[], data: uPlot.AlignedData): uPlot {
    const style = getComputedStyle(document.documentElement);
    const [ink, line] = [style.getPropertyValue("--soft").trim(), style.getPropertyValue("--line").trim()];
    const axis: uPlot.Axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    return new uPlot({
      ...this.size(), legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { y: { range: (_u, _min, max) => [0, Math.max(1, max * 1.1)] } },
      axes: [{ ...axis, space: 80 }, { ...axis, size: 52, values: (_u, ticks) => ticks.map((v) => this.short(v)) }],
      series: [{}, ...names.map((label, i) => ({ label, stroke: this.colour(i), width: 2, points: { show: false } }))],
    }, data, this.box);
  }
}
