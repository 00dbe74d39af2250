import "../file/file.css";
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
  {
    path: "/file",
    title: ["Files", "文件"],
    about: ["Hand over files of any size, by a link, a code or to an account.", "通过链接、代码或账户传送任意大小的文件。"],
    icon: "M14 3H6v18h12V7zM14 3v4h4M9 13h6M9 17h6",
    load: () => import("../file/file.js"),
  },
];
