type Child = Node | string | undefined | false;
type Props<T> = { [K in keyof T]?: T[K] } & { class?: string; role?: string; data?: Record<string, string>; aria?: Record<string, string> };

/** Makes an element: its properties, then its children. Text never becomes markup. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props<HTMLElementTagNameMap[K]> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag);
  const { class: name, role, data, aria, ...rest } = props as Props<HTMLElement>;
  if (name) e.className = name;
  if (role) e.setAttribute("role", role);
  for (const [k, v] of Object.entries(data ?? {})) e.dataset[k] = v;
  for (const [k, v] of Object.entries(aria ?? {})) e.setAttribute(`aria-${k}`, v);
  Object.assign(e, rest);
  e.append(...children.filter((c): c is Node | string => c !== undefined && c !== false));
  return e;
}

/** Makes one of the icons, which are paths in a box of 24 by 24. It is decoration: what it is next to has the words. */
export function icon(path: string): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const p = document.createElementNS(ns, "path");
  p.setAttribute("d", path);
  svg.append(p);
  return svg;
}
