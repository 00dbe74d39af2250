import "../file/file.css";
import "../live/live.css"; // a chunk brings no style sheet
import "../meeting/meeting.css";
import "../state/state.css";
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
    path: "/meeting",
    title: ["Meeting", "会议"],
    about: ["See and hear each other, share a screen, talk.", "视频会议：彼此看见、听见，共享屏幕，聊天。"],
    icon: "M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20a6.500 6.500 0 0 1 13 0M16 4.500a3.500 3.500 0 0 1 0 6M18 14.500a6.500 6.500 0 0 1 3.500 5.500",
    load: () => import("../meeting/meetingpage.js"),
  },
  {
    path: "/file",
    title: ["Files", "文件"],
    about: ["Hand over files of any size, by a link, a code or to an account.", "通过链接、代码或账户传送任意大小的文件。"],
    icon: "M14 3H6v18h12V7zM14 3v4h4M9 13h6M9 17h6",
    load: () => import("../file/file.js"),
  },
  {
    path: "/state",
    title: ["Board", "白板"],
    about: ["Draw together, hand in hand, or meet in a scene.", "一起实时绘画，或在场景中相见。"],
    icon: "M4 4h16v12H4zM8 20h8M7 12c2-5 4 3 6-1s3-2 4 0",
    load: () => import("../state/state.js"),
  },
];
