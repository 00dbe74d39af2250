/** How tiles of one shape fill an area: all in pixels. */
export interface Grid {
  columns: number;
  rows: number;
  width: number;
  height: number;
}

/** Returns the columns and rows with which n tiles of 16 by 9 are largest. */
export function fit(n: number, width: number, height: number, gap: number): Grid {
  let best: Grid = { columns: 1, rows: Math.max(1, n), width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(1, n); columns++) {
    const rows = Math.ceil(Math.max(1, n) / columns);
    const w = Math.floor(Math.min((width - gap * (columns - 1)) / columns, ((height - gap * (rows - 1)) / rows) * (16 / 9)));
    if (w > best.width) best = { columns, rows, width: w, height: Math.floor((w * 9) / 16) };
  }
  return best;
}

/** Tiles narrower than this show nobody. */
const least = 150;
const most = 12;

/** Returns how many tiles an area has at most on one page. */
export function perPage(width: number, height: number, gap: number): number {
  let n = 1;
  while (n < most && fit(n + 1, width, height, gap).width >= least) n++;
  return n;
}

/**
 * Returns who is on a page. The order stays as it is, so that nobody jumps about; only a speaker who would not be seen on the first page takes the place
 * of the one there who has been quiet for longest.
 */
export function pageOf<T>(all: readonly T[], size: number, page: number, heardAt: (t: T) => number, speaks: T | undefined): T[] {
  const order = [...all];
  const at = speaks === undefined ? -1 : order.indexOf(speaks);
  if (at >= size) {
    let quiet = size - 1;
    for (let i = size - 1; i >= 0; i--) if (heardAt(order[i]!) < heardAt(order[quiet]!)) quiet = i;
    [order[at], order[quiet]] = [order[quiet]!, order[at]!];
  }
  return order.slice(page * size, (page + 1) * size);
}
