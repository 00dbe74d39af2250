import type { Stroke } from "./board.js";

/** What one draws with: names, and colours that are read on white. A stroke has the index. */
export const inks = [["black", "#16181d"], ["blue", "#1f5ae0"], ["red", "#c0271d"], ["green", "#14713d"], ["orange", "#b45309"], ["violet", "#7c3aed"]] as const;

/** Pixels that a board is drawn with, wherever it is shown, and that widths are told in. */
export const boardWidth = 1600;
export const boardHeight = 900;

export function inkOf(s: Stroke): string {
  return inks[s.colour % inks.length]![1];
}

/** Returns the corners of a stroke in pixels, x and y by turns. */
export function pixels(s: Stroke): number[] {
  return s.points.map((v, i) => Math.round((v / 65535) * (i % 2 ? boardHeight : boardWidth) * 10) / 10);
}

/** Returns the board as a picture, SVG. */
export function svg(strokes: readonly Stroke[]): string {
  const lines = strokes.map((s) => {
    const p = pixels(s);
    const points = p.length === 2 ? [...p, ...p] : p; // a dot is a line of no length
    return `<polyline points="${points.join(" ")}" stroke="${inkOf(s)}" stroke-width="${Math.max(1, s.width)}"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${boardWidth} ${boardHeight}"><rect width="${boardWidth}" height="${boardHeight}" fill="#fff"/><g fill="none" stroke-linecap="round" stroke-linejoin="round">${lines.join("")}</g></svg>\n`;
}
