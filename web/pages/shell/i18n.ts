// Words in English and Chinese. Each page has a table of its own: `words({ send: ["Send", "发送"] })` gives a function that takes the key.

export type Language = "en" | "zh";

const kept = "timedge.language";

export const language: Language = ((): Language => {
  const l = localStorage.getItem(kept) ?? navigator.language;
  return l.startsWith("zh") ? "zh" : "en";
})();

/** Shows the pages in a language from now on. It loads them anew. */
export function speak(l: Language): void {
  localStorage.setItem(kept, l);
  location.reload();
}

/** Gives the texts of a table by their keys. `{name}` in a text stands for the value of that name. */
export function words<K extends string>(table: Record<K, readonly [en: string, zh: string]>): (key: K, values?: Record<string, string | number>) => string {
  return (key, values = {}) => table[key][language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

const units = ["B", "kB", "MB", "GB", "TB"];

/** A number of bytes for people. */
export function bytes(n: number): string {
  let i = 0;
  while (n >= 1000 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  return `${n.toLocaleString(language, { maximumFractionDigits: i === 0 || n >= 100 ? 0 : 1 })} ${units[i]}`;
}
