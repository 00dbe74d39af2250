import "../live/live.css"; // a chunk brings no style sheet
import type { Page } from "./page.js";

/** A page of the shell: to add one, add a line here and its path to `routes` in web.go. */
export interface Route {
  path: string;
  title: readonly [en: string, zh: string];
  about: readonly [en: string, zh: string];
  icon: string;
  load: () => Promise<{ page: Page }>;
}

export const routes: readonly Route[] = [
  {
    path: "/live",
    title: ["Live", "直播"],
    about: ["Show a camera, the screen or a film to all who have the link.", "把摄像头、屏幕或影片展示给所有拥有链接的人。"],
    icon: "M3 7h11v10H3zM14 10l7-3v10l-7-3",
    load: () => import("../live/live.js"),
  },
];
